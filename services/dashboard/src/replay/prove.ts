/**
 * Whether the read model's answer about a batch is what the batch's own log folds to.
 *
 * The log comes from the log itself, through the export; the answer comes from the projector's
 * tables. Whatever can't be looked through to its end is not proven, and says why.
 */

import { apply, newBatch, type BatchState } from "../fold/batch";
import { canonical, digestOf } from "../fold/digest";
import { readEvent, readView } from "../fold/events";
import { isManifest, LineError, readLine, textOf } from "../fold/export";
import { readExact } from "../fold/json";
import { FormError } from "../fold/schema";
import { viewOf, type View } from "../fold/view";
import { Checker } from "./check";
import { FileError, LineCutter } from "./lines";

/** A field that differs, as JSON. */
export interface Difference {
  field: string;
  folded: string;
  answered: string;
}

export type Proof =
  | { kind: "proven"; sequence: number; events: number; erased: number; digest: string }
  | { kind: "differs"; sequence: number; events: number; differences: Difference[] }
  | { kind: "unproven"; words: string };

export interface Sources {
  /** The export of the batch, as bytes. */
  openLog(): Promise<ReadableStream<Uint8Array>>;
  /** The read model's answer about the batch as of a sequence, as text. */
  fetchView(sequence: number): Promise<string>;
}

/** A reason not to call anything proven. */
class Unproven extends Error {}

/**
 * Prove the batch `id` as of sequence `at`, or as of its last event for null.
 * `progress` is told how many events are folded. Throws what `sources` throw.
 */
export async function prove(
  id: string,
  at: number | null,
  sources: Sources,
  progress: (events: number) => void,
): Promise<Proof> {
  try {
    const first = await compare(id, at, sources, progress);
    // A text may have been erased between the two answers: only what differs twice does differ.
    return first.kind === "differs" ? await compare(id, at, sources, progress) : first;
  } catch (error) {
    if (error instanceof Unproven || error instanceof FileError || error instanceof LineError)
      return { kind: "unproven", words: error.message };
    throw error;
  }
}

async function compare(
  id: string,
  at: number | null,
  sources: Sources,
  progress: (events: number) => void,
): Promise<Proof> {
  const { state, events, erased } = await foldLog(id, at, await sources.openLog(), progress);
  const sequence = at ?? state.sequence;
  const folded = viewOf(state);
  if (folded === null) throw new Unproven(`The log holds no start of this batch up to ${sequence}.`);
  const answered = readAnswer(await sources.fetchView(sequence), sequence);
  const differences = differencesOf(folded, answered);
  if (differences.length > 0) return { kind: "differs", sequence, events, differences };
  return { kind: "proven", sequence, events, erased, digest: digestOf(folded) };
}

interface FoldedLog {
  state: BatchState;
  events: number;
  erased: number;
}

async function foldLog(
  id: string,
  at: number | null,
  log: ReadableStream<Uint8Array>,
  progress: (events: number) => void,
): Promise<FoldedLog> {
  const cutter = new LineCutter();
  const checker = new Checker();
  let state = newBatch(id);
  let events = 0;
  const take = (text: string): void => {
    const line = readLine(text);
    checker.add(line);
    if (isManifest(line) || line.sequence > (at ?? Infinity)) return;
    const found = readEvent(textOf(line));
    if (found.kind !== "event") {
      const why = found.kind === "malformed" ? found.words : `of the type ${found.type}`;
      throw new Unproven(
        `This page can't read event ${line.sequence} of the log (${why}). If the server is newer` +
          " than this page, reload the page.",
      );
    }
    if (found.event.batch_id !== id)
      throw new Unproven(`Event ${line.sequence} of the log names another batch.`);
    state = apply(state, { sequence: line.sequence, storedAt: line.timeUs, event: found.event });
    events += 1;
  };
  const reader = log.getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    for (const line of cutter.cut(piece.value)) take(line.text);
    progress(events);
  }
  for (const line of cutter.rest()) take(line.text);
  const { damage, erased, erasedSince } = checker.end();
  if (damage !== null) throw new Unproven(`The log that came is not whole: ${damage}.`);
  if (erasedSince > 0)
    throw new Unproven(
      `The log says that texts of ${erasedSince} of its events were erased after its end, but` +
        " nothing in it vouches for them. If it says so again, run `millstream audit verify`.",
    );
  return { state, events, erased };
}

function readAnswer(text: string, sequence: number): View {
  const answer = readExact(text) as { batch?: unknown; as_of?: unknown };
  if (answer.as_of !== sequence)
    throw new Unproven(
      `The read model answered as of sequence ${String(answer.as_of)}, not ${sequence}: try again.`,
    );
  const { batch } = answer;
  try {
    const view = readView(batch) as View;
    const odd = Object.keys(batch as View).filter((name) => !(name in view));
    if (odd.length === 0) return view;
    throw new Unproven(
      `The answer has fields that this page does not know (${odd.join(", ")}): reload the page.`,
    );
  } catch (error) {
    if (!(error instanceof FormError)) throw error;
    throw new Unproven(`This page can't read the answer (${error.message}): reload the page.`);
  }
}

/** The fields, down to the last level, in which two views differ. */
export function differencesOf(folded: unknown, answered: unknown, field = ""): Difference[] {
  if (canonical(folded) === canonical(answered)) return [];
  if (isObject(folded) && isObject(answered)) {
    const names = new Set([...Object.keys(folded), ...Object.keys(answered)]);
    return [...names].flatMap((name) =>
      differencesOf(folded[name] ?? null, answered[name] ?? null, field ? `${field}.${name}` : name),
    );
  }
  return [{ field, folded: canonical(folded), answered: canonical(answered) }];
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
