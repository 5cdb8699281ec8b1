/**
 * A log in a file, folded once from end to end and then shown as of any of its events.
 *
 * Nothing of the events is kept in memory but where each one's line stands in the file, and the
 * state after every so many of them: states share what did not change.
 */

import { apply, newBatch, type BatchState } from "../fold/batch";
import { readEvent, type Found } from "../fold/events";
import { readLine, textOf, type StoredLine } from "../fold/export";
import { textOfMicros } from "../fold/times";
import { viewOf, type View } from "../fold/view";
import { FileError, LineCutter, REMEDY, type Line } from "./lines";
import { eachPiece, PIECE_BYTES, type Helper, type Piece, type PieceEvent } from "./pieces";

const CHECKPOINT_EVENTS = 32;
const CHECKPOINT_BYTES = 512 * 1024;

interface Checkpoint {
  /** How many of the batch's events are folded into the state. */
  events: number;
  state: BatchState;
}

/** One batch of the log: where its lines are, and its state now and then. */
interface Track {
  starts: number[];
  ends: number[];
  /** Places of accepted samples among the batch's events. */
  samples: number[];
  checkpoints: Checkpoint[];
  state: BatchState;
}

/** An event as the page shows it. */
export interface ShownEvent {
  sequence: number;
  stored_at: string;
  subject: string;
  event: Record<string, unknown>;
}

/** The batch after `events` of its events. */
export interface Moment {
  events: number;
  sequence: number;
  storedAt: string;
  type: string;
  view: View | null;
  /** How many samples there were by then. */
  samples: number;
}

export interface BatchOfLog {
  id: string;
  events: number;
}

export interface Opened {
  batches: BatchOfLog[];
  lines: number;
  /** Messages that this version of the page can't read, and does not show. */
  unreadable: number;
  erased: number;
}

type Progress = (share: number) => void;

export class ReplayLog {
  readonly #file: Blob;
  readonly #tracks = new Map<string, Track>();
  #lines = 0;
  #unreadable = 0;
  #erased = 0;
  /** The state that was asked for last, from which the next one is often not far. */
  #near: { track: Track; checkpoint: Checkpoint } | null = null;

  constructor(file: Blob) {
    this.#file = file;
  }

  /** Fold the whole file, which `helpers` read too. Throws `FileError`. */
  async open(progress: Progress, helpers: readonly Helper[] = []): Promise<Opened> {
    if (this.#file.size === 0) throw new FileError(`The file is empty. ${REMEDY}.`);
    await eachPiece(this.#file, helpers, (piece) => this.#take(piece), progress);
    const batches = [...this.#tracks]
      .filter(([, track]) => track.state.started !== null)
      .map(([id, track]) => ({ id, events: track.starts.length }));
    if (batches.length === 0)
      throw new FileError(`No batch begins in this file (${this.#lines} lines). ${REMEDY}.`);
    return {
      batches,
      lines: this.#lines,
      unreadable: this.#unreadable,
      erased: this.#erased,
    };
  }

  #take(piece: Piece): void {
    this.#lines += piece.messages;
    this.#erased += piece.erased;
    this.#unreadable += piece.unreadable;
    for (const event of piece.events) this.#fold(event);
  }

  #fold(found: PieceEvent): void {
    const { event } = found;
    const id = event.batch_id;
    let track = this.#tracks.get(id);
    if (!track) {
      const state = newBatch(id);
      track = { starts: [], ends: [], samples: [], checkpoints: [{ events: 0, state }], state };
      this.#tracks.set(id, track);
    }
    if (event.type === "sample.generated.v1") track.samples.push(track.starts.length);
    track.starts.push(found.start);
    track.ends.push(found.end);
    track.state = apply(track.state, found);
    keepCheckpoint(track);
  }

  /** The batch after the first `events` of its events. */
  async seek(id: string, events: number): Promise<Moment> {
    const track = this.#track(id);
    const wanted = Math.max(1, Math.min(events, track.starts.length));
    const from = this.#begin(track, wanted);
    let { state } = from;
    let last: StoredLine | null = null;
    let type = "";
    // One more is read where the state is there already: its event is shown too.
    const first = Math.min(from.events, wanted - 1);
    for (const [place, stored] of (await this.#stored(track, first, wanted)).entries()) {
      const found = readEvent(textOf(stored));
      if (first + place >= from.events) state = folded(state, stored, found);
      last = stored;
      type = found.kind === "event" ? found.event.type : "";
    }
    this.#near = { track, checkpoint: { events: wanted, state } };
    return {
      events: wanted,
      sequence: last?.sequence ?? 0,
      storedAt: textOfMicros(last?.timeUs ?? 0),
      type,
      view: viewOf(state),
      samples: countBelow(track.samples, wanted),
    };
  }

  /** The checkpoint, or the state asked for before, that is next below. */
  #begin(track: Track, wanted: number): Checkpoint {
    const { checkpoints } = track;
    let best = checkpoints[0]!;
    for (let low = 0, high = checkpoints.length - 1; low <= high; ) {
      const middle = (low + high) >> 1;
      const candidate = checkpoints[middle]!;
      if (candidate.events <= wanted) {
        best = candidate;
        low = middle + 1;
      } else high = middle - 1;
    }
    const near = this.#near;
    const isNearer =
      near?.track === track &&
      near.checkpoint.events <= wanted &&
      near.checkpoint.events > best.events;
    return isNearer ? near.checkpoint : best;
  }

  /** Events `from` (0 for the first) and after, `limit` at most and below `until`, as stored. */
  async events(id: string, from: number, limit: number, until: number): Promise<ShownEvent[]> {
    const track = this.#track(id);
    const end = Math.min(from + limit, until, track.starts.length);
    return (await this.#stored(track, from, end)).map(shown);
  }

  /** The samples made within the first `until` events, `limit` of them from `from` on. */
  async samples(id: string, from: number, limit: number, until: number): Promise<ShownEvent[]> {
    const track = this.#track(id);
    const end = Math.min(from + limit, countBelow(track.samples, until));
    const places = track.samples.slice(from, end);
    const found = places.map((place) => this.#stored(track, place, place + 1));
    return (await Promise.all(found)).flat().map(shown);
  }

  #track(id: string): Track {
    const track = this.#tracks.get(id);
    if (!track) throw new FileError(`This file has no batch ${id}.`);
    return track;
  }

  /** The stored messages of the batch's events `from` to below `until`. */
  async #stored(track: Track, from: number, until: number): Promise<StoredLine[]> {
    if (from >= until) return [];
    const start = track.starts[from]!;
    const piece = this.#file.slice(start, track.ends[until - 1]!);
    const bytes = new Uint8Array(await piece.arrayBuffer());
    const decoder = new TextDecoder();
    const found: StoredLine[] = [];
    for (let place = from; place < until; place++) {
      const line = bytes.subarray(track.starts[place]! - start, track.ends[place]! - start);
      found.push(readLine(decoder.decode(line)) as StoredLine);
    }
    return found;
  }
}

function keepCheckpoint(track: Track): void {
  const events = track.starts.length;
  const last = track.checkpoints.at(-1)!;
  const bytes = track.ends[events - 1]! - (track.starts[last.events] ?? 0);
  if (events - last.events >= CHECKPOINT_EVENTS || bytes >= CHECKPOINT_BYTES)
    track.checkpoints.push({ events, state: track.state });
}

function folded(state: BatchState, stored: StoredLine, found: Found): BatchState {
  if (found.kind !== "event") return state;
  return apply(state, {
    sequence: stored.sequence,
    storedAt: stored.timeUs,
    event: found.event,
  });
}

function shown(stored: StoredLine): ShownEvent {
  const found = readEvent(textOf(stored));
  return {
    sequence: stored.sequence,
    stored_at: textOfMicros(stored.timeUs),
    subject: stored.subject,
    event: found.kind === "event" ? found.raw : {},
  };
}

/** How many of the rising `places` lie below `end`. */
function countBelow(places: readonly number[], end: number): number {
  let low = 0;
  for (let high = places.length; low < high; ) {
    const middle = (low + high) >> 1;
    if (places[middle]! < end) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Read a file line by line. */
export async function eachLine(
  file: Blob,
  take: (line: Line) => void,
  progress: Progress = () => undefined,
): Promise<void> {
  if (file.size === 0) throw new FileError(`The file is empty. ${REMEDY}.`);
  const cutter = new LineCutter();
  let next = pieceOf(file, 0);
  for (let start = 0; start < file.size; start += PIECE_BYTES) {
    const bytes = await next;
    // The next piece is read while the lines of this one are taken.
    next = pieceOf(file, start + PIECE_BYTES);
    for (const line of cutter.cut(bytes)) take(line);
    progress(Math.min(1, (start + bytes.length) / file.size));
  }
  for (const line of cutter.rest()) take(line);
}

async function pieceOf(file: Blob, start: number): Promise<Uint8Array> {
  return new Uint8Array(await file.slice(start, start + PIECE_BYTES).arrayBuffer());
}
