/** The stored events as the fold reads them: the mirror of `millstream_schemas.events`. */

import { readExact } from "./json";
import { FormError, readerOf, readerOfParts, type Reader, type Schema } from "./schema";
import document from "./schema.json";

export interface ErrorInfo {
  category: string;
  message: string;
  slot: number | null;
}

export interface Counts {
  generated: number;
  failed: number;
  abandoned: number;
  pending: number;
  rejected: number;
  attempts_failed: number;
  tokens_in: number;
  tokens_out: number;
  cost_nano_usd: number | null;
  wasted_nano_usd: number | null;
  unpriced_calls: number | null;
  unconfirmed_calls: number;
}

export interface SliceState {
  epoch: number;
  node: string;
  generated: string;
  failed: string;
  abandoned: string;
  attempts: Record<string, number>;
  rejected: number;
  attempts_failed: number;
  tokens_in: number;
  tokens_out: number;
  cost_nano_usd: number | null;
  wasted_nano_usd: number | null;
  unpriced: number | null;
  errors: Record<string, number>;
  last_error: ErrorInfo | null;
  barren_claims: number;
  on_trial: number | null;
  unconfirmed: number;
  allowance: number | null;
  in_flight: number | null;
  closed: boolean;
}

/** What was asked for; the fold looks at these parts of it. */
export interface BatchSpec {
  recipe: { recipe: { name: string }; content_hash: string };
  model: string;
  routes: { provider: string }[];
  target: number;
  slice_size: number;
  seed: number | bigint;
  concurrency: number;
  priority: string;
  pool: string;
  topic: string | null;
  difficulty: string | null;
  sample_type: string | null;
  instruction: string | null;
  smart_mode: boolean;
  budgets: Record<string, number | null>;
}

export interface StuckFinding {
  rule: string;
  since: string;
  idle_s: number;
  threshold_s: number;
  cause: string;
  suggestion: string;
}

interface Envelope<Type extends string> {
  type: Type;
  batch_id: string;
  actor: { kind: string; id: string };
}

export interface BatchStarted extends Envelope<"batch.started.v1"> {
  spec: BatchSpec;
  dataset_id: string;
  parent_id: string | null;
}

export interface BatchStopRequested extends Envelope<"batch.stop_requested.v1"> {
  mode: "cancel" | "drain";
  reason: string;
  error: ErrorInfo | null;
}

export type LastEvent =
  | (Envelope<"batch.stopped.v1" | "batch.completed.v1"> & { counts: Counts })
  | (Envelope<"batch.failed.v1"> & { counts: Counts; error: ErrorInfo });

export type ControlEvent =
  | BatchStarted
  | Envelope<"batch.paused.v1" | "batch.resumed.v1">
  | (Envelope<"batch.priority_changed.v1"> & { priority: string })
  | BatchStopRequested
  | LastEvent;

export type SliceEvent = Envelope<
  | "slice.claimed.v1"
  | "slice.released.v1"
  | "slice.slot_on_trial.v1"
  | "slice.calls_announced.v1"
  | "slice.closed.v1"
  | "sample.generated.v1"
  | "sample.attempt_failed.v1"
  | "sample.rejected.v1"
  | "sample.failed.v1"
  | "sample.abandoned.v1"
> & { slice: number; after: SliceState };

export type RouteNote = Envelope<"route.throttled.v1" | "route.blocked.v1"> & {
  model: string;
  until: string;
  message: string;
};

export type NoteEvent =
  | (Envelope<"batch.stuck_detected.v1"> & { finding: StuckFinding })
  | Envelope<"batch.stuck_cleared.v1" | "route.recovered.v1" | "route.not_direct.v1">
  | (Envelope<"batch.budget_warned.v1"> & { budget: string })
  | RouteNote
  | (Envelope<"batch.child_started.v1"> & { child_id: string; kind: "retry_failed" | "continue" });

export type SampleRedacted = Envelope<"sample.redacted.v1"> & {
  silences: number[];
  erased: string[];
  reason: string;
  target: {
    sequence: number;
    subject: string;
    time_us: number;
    headers: string;
    payload_hash: string;
    event: Record<string, unknown>;
  };
};

export type BatchEvent = ControlEvent | SliceEvent | NoteEvent | SampleRedacted;

const STARTED = "batch.started.v1";
/** What the fold reads of events. The rest of an event is checked, and is in its `raw` form alone. */
const FOLDED = [
  ...["type", "batch_id", "actor", "slice", "after"],
  ...["spec", "dataset_id", "parent_id", "mode", "reason", "error", "counts", "priority"],
  ...["finding", "budget", "model", "until", "message", "child_id", "kind"],
  ...["silences", "erased", "target"],
];
const NAMES = document.events as Record<string, string>;
const SYSTEM_TYPES: readonly string[] = document.system_events;
const readers = new Map<string, Reader>();

/** Reads the view of a batch, as an answer holds it, into the one form that has a digest. */
export const readView: Reader = readerOf(document as unknown as Schema, "BatchView");

/** What a payload is: an event, or why none of a batch that this page knows. */
export type Found =
  | { kind: "event"; event: BatchEvent; raw: Record<string, unknown> }
  | { kind: "system" | "unknown"; type: string }
  | { kind: "malformed"; words: string };

/** Read one stored payload; never throws. */
export function readEvent(payload: string): Found {
  let raw: unknown;
  try {
    raw = JSON.parse(payload);
    // Only a seed may need more digits than a double has; readers refuse any other such number,
    // or stop at the greatest exact one.
    if ((raw as { type?: unknown } | null)?.type === STARTED) raw = readExact(payload);
  } catch (error) {
    return { kind: "malformed", words: `not JSON (${(error as Error).message})` };
  }
  if (typeof raw !== "object" || raw === null || Array.isArray(raw))
    return { kind: "malformed", words: "not an object" };
  const { type } = raw as { type?: unknown };
  if (typeof type !== "string") return { kind: "malformed", words: "type is no text" };
  if (SYSTEM_TYPES.includes(type)) return { kind: "system", type };
  const name = Object.hasOwn(NAMES, type) ? NAMES[type] : undefined;
  if (name === undefined) return { kind: "unknown", type };
  let read = readers.get(type);
  if (!read) {
    read = readerOfParts(document as unknown as Schema, name, FOLDED);
    readers.set(type, read);
  }
  try {
    return { kind: "event", event: read(raw) as BatchEvent, raw: raw as Record<string, unknown> };
  } catch (error) {
    if (!(error instanceof FormError)) throw error;
    return { kind: "malformed", words: error.message };
  }
}
