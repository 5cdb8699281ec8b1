/**
 * A log file in pieces, so that several workers read it at once: what takes long is to parse and
 * to check each line; the fold, for which the order matters, is short.
 */

import { readEvent, type BatchEvent } from "../fold/events";
import { isManifest, LineError, readLine, textOf, type StoredLine } from "../fold/export";
import { LineCutter, lineError, type Line } from "./lines";

export const PIECE_BYTES = 8 * 1024 * 1024;
/** A last line that goes on beyond its piece is read so much further, then twice that, and so on. */
const MORE_BYTES = 64 * 1024;
/** So many pieces may be read before the one that is to be folded next. */
const AHEAD = 8;
/** So many pieces a helper is asked for at once: it goes on while this worker is busy. */
const DEPTH = 2;
const NEWLINE = 10;

/** One event of a piece, and where its line stands in the file. */
export interface PieceEvent {
  sequence: number;
  storedAt: number;
  start: number;
  end: number;
  event: BatchEvent;
  /** As it was stored, unless it is an event of a slice. */
  payload: string | null;
}

/** What the lines hold that begin within one piece. */
export interface Piece {
  lines: number;
  messages: number;
  erased: number;
  /** Messages that this version of the page can't read. */
  unreadable: number;
  events: PieceEvent[];
}

/** A piece on its way from one worker to another: its events as one text, without their samples. */
export type Packed = Omit<Piece, "events"> & { events: string };

/** Someone else who reads pieces of the same file. */
export interface Helper {
  read(place: number): Promise<Packed>;
}

interface Bytes {
  bytes: Uint8Array<ArrayBuffer>;
  start: number;
}

export const piecesOf = (file: Blob, size: number): number => Math.ceil(file.size / size);

/** Read one piece. Throws `FileError`, counting lines from `firstLine`. */
export async function readPiece(
  file: Blob,
  place: number,
  size: number,
  firstLine = 1,
): Promise<Piece> {
  return parsed(await bytesOf(file, place, size), firstLine);
}

/**
 * Give every piece to `take` in the order of the file, reading them with `helpers`. Throws the
 * `FileError` of the first line that is none.
 */
export async function eachPiece(
  file: Blob,
  helpers: readonly Helper[],
  take: (piece: Piece) => void,
  progress: (share: number) => void,
  size = PIECE_BYTES,
): Promise<void> {
  const count = piecesOf(file, size);
  /** Pieces read and not yet taken; null where that failed. */
  const done = new Map<number, Piece | null>();
  const waiting = new Set<Promise<void>>();
  /** Those that were too far ahead to be asked for more. */
  const idle: Helper[] = [];
  let next = 0;
  let taken = 0;
  let line = 1;
  const claim = (): number | null => (next < count && next - taken < AHEAD ? next++ : null);
  const claimBytes = () => {
    const place = claim();
    return place === null ? null : { place, read: bytesOf(file, place, size) };
  };
  const help = (helper: Helper): void => {
    const place = claim();
    if (place === null) {
      idle.push(helper);
      return;
    }
    const answer = helper.read(place).then(
      (packed) => done.set(place, unpacked(packed)),
      () => done.set(place, null),
    );
    const over = answer.then(() => {
      waiting.delete(over);
      help(helper);
    });
    waiting.add(over);
  };
  let mine = claimBytes();
  for (let depth = 0; depth < DEPTH; depth++) helpers.forEach(help);
  while (taken < count) {
    const piece = done.get(taken);
    if (piece !== undefined) {
      done.delete(taken);
      // One that could not be read is read again: now it is known which lines it has.
      const found = piece ?? (await readPiece(file, taken, size, line));
      take(found);
      line += found.lines;
      taken += 1;
      progress(taken / count);
      idle.splice(0).forEach(help);
      mine ??= claimBytes();
    } else if (mine) {
      const { place, read } = mine;
      const bytes = await read;
      mine = claimBytes(); // It is read while the lines of this one are parsed.
      done.set(place, tried(bytes));
    } else {
      await Promise.race(waiting);
    }
  }
}

function tried(bytes: Bytes): Piece | null {
  try {
    return parsed(bytes, 1);
  } catch {
    return null;
  }
}

/** The whole lines that begin within a piece. */
async function bytesOf(file: Blob, place: number, size: number): Promise<Bytes> {
  const from = place * size;
  const to = Math.min(file.size, from + size);
  // With the byte before it: after an end of line, a line begins with the piece.
  const before = Math.min(1, from);
  let bytes = await read(file, from - before, to);
  const begin = before === 0 ? 0 : bytes.indexOf(NEWLINE) + 1;
  const none = before === 1 && begin === 0;
  if (none || begin === bytes.length) return { bytes: new Uint8Array(), start: to };
  let step = MORE_BYTES;
  for (let end = to; bytes.at(-1) !== NEWLINE && end < file.size; step *= 2) {
    const more = await read(file, end, end + step);
    end += more.length;
    const rest = more.subarray(0, more.indexOf(NEWLINE) + 1 || more.length);
    const longer = new Uint8Array(bytes.length + rest.length);
    longer.set(bytes);
    longer.set(rest, bytes.length);
    bytes = longer;
  }
  return { bytes: bytes.subarray(begin), start: from - before + begin };
}

async function read(file: Blob, from: number, to: number): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await file.slice(from, to).arrayBuffer());
}

function parsed({ bytes, start }: Bytes, firstLine: number): Piece {
  const piece: Piece = { lines: 0, messages: 0, erased: 0, unreadable: 0, events: [] };
  const cutter = new LineCutter(start, firstLine);
  for (const line of cutter.cut(bytes)) add(piece, line);
  for (const line of cutter.rest()) add(piece, line);
  return piece;
}

function add(piece: Piece, line: Line): void {
  piece.lines += 1;
  const stored = storedIn(line);
  if (stored === null) return;
  piece.messages += 1;
  piece.erased += Number(stored.payloadHash !== null);
  const payload = textOf(stored);
  const found = readEvent(payload);
  if (found.kind !== "event") {
    piece.unreadable += Number(found.kind !== "system");
    return;
  }
  const { event } = found;
  piece.events.push({
    sequence: stored.sequence,
    storedAt: stored.timeUs,
    start: line.start,
    end: line.end,
    event,
    payload: "after" in event ? null : payload,
  });
}

function storedIn(line: Line): StoredLine | null {
  try {
    const found = readLine(line.text);
    return isManifest(found) ? null : found;
  } catch (error) {
    if (!(error instanceof LineError)) throw error;
    throw lineError(line.number, error.message);
  }
}

type Row = [number, number, number, number, string | object];

/** Of a slice's event what the fold reads, of another one what was stored. */
export function packed(piece: Piece): Packed {
  const rows = piece.events.map(({ sequence, storedAt, start, end, event, payload }): Row => {
    if (payload !== null || !("after" in event))
      return [sequence, storedAt, start, end, payload ?? ""];
    const { type, batch_id, slice, after } = event;
    return [sequence, storedAt, start, end, { type, batch_id, slice, after }];
  });
  return { ...piece, events: JSON.stringify(rows) };
}

export function unpacked(piece: Packed): Piece {
  const rows = JSON.parse(piece.events) as Row[];
  const events = rows.map(([sequence, storedAt, start, end, given]): PieceEvent => {
    const where = { sequence, storedAt, start, end };
    if (typeof given !== "string") return { ...where, event: given as BatchEvent, payload: null };
    const found = readEvent(given);
    if (found.kind !== "event") throw new Error(`what was an event is ${found.kind} now`);
    return { ...where, event: found.event, payload: given };
  });
  return { ...piece, events };
}
