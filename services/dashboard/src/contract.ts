/**
 * What the server says and is told: the mirror of `schemas/millstream_schemas`.
 *
 * Times are ISO 8601 with an offset, money is in 1e-9 US dollars, null means unknown.
 */

import type { Limited } from "./limited";

export type State =
  | "queued"
  | "running"
  | "paused"
  | "stopping"
  | "stopped"
  | "completed"
  | "failed";

export const STATES: readonly State[] = [
  "queued",
  "running",
  "paused",
  "stopping",
  "completed",
  "stopped",
  "failed",
];

export const LIVE_STATES: readonly State[] = ["queued", "running", "paused", "stopping"];

/** Whether a batch in this state may still change. */
export function isLive(state: State): boolean {
  return LIVE_STATES.includes(state);
}

/** Whether one of its budgets has ended a batch. */
export function isOverBudget({ state, stopped_by }: BatchView): boolean {
  return state === "stopped" && stopped_by === "budgets";
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
  unpriced_calls: number | null; // The cost is without theirs.
  unconfirmed_calls: number;
}

export interface ErrorInfo {
  category: string;
  message: string;
  slot: number | null;
}

export interface StuckFinding {
  rule: string;
  since: string;
  idle_s: number;
  threshold_s: number;
  cause: string;
  suggestion: string;
}

/** Why a batch waits, and until when at least. */
export interface HeldUp {
  kind: "throttled" | "blocked";
  model: string;
  since: string;
  until: string;
  message: string;
}

export interface Budgets {
  max_cost_nano_usd: number | null;
  max_tokens: number | null;
  max_duration_s: number | null;
  max_failure_ratio: number | null;
  max_attempts: number | null;
}

export interface BatchView {
  id: string;
  dataset_id: string;
  parent_id: string | null;
  state: State;
  model: string;
  provider: string;
  recipe: string;
  recipe_hash: string;
  target: number;
  counts: Counts;
  concurrency: number;
  slice_size: number;
  seed: number;
  priority: string;
  pool: string;
  topic: string | null;
  difficulty: string | null;
  sample_type: string | null;
  instruction: string | null;
  smart_mode: boolean;
  started_by: string;
  started_at: string;
  last_progress_at: string | null;
  finished_at: string | null;
  stop_reason: string | null;
  stopped_by: string | null;
  error: ErrorInfo | null;
  last_error: ErrorInfo | null;
  errors: Record<string, number>;
  stuck: StuckFinding | null;
  held_up: HeldUp | null;
  budgets: Budgets;
  budgets_warned: string[];
  retry_id: string | null;
  child_id: string | null;
  anomalies: number;
  version: number;
  sequence: number;
}

export interface BatchPage {
  batches: BatchView[];
  next_cursor: string | null;
  total: number;
  states: Partial<Record<State, number>>;
  facets?: Facets;
  limited?: Limited;
  as_of: number;
}

/** A filter's name -> its values, the most frequent first. */
export type Facets = Record<string, Tally[]>;

export interface BatchAnswer {
  batch: BatchView;
  as_of: number;
}

/** The answer to a start or a stop: the batch as it is once `sequence` is folded. */
export interface CommandAnswer {
  batch: BatchView;
  sequence: number;
}

/** One batch's outcome as an HTTP status; `child_id`: the child that was started, or that it has. */
export interface BulkItem {
  id: string;
  status: number;
  detail: string | null;
  state: State | null;
  child_id: string | null;
  /** Whether it changes, or in a dry run would change, anything. */
  changed: boolean;
}

export interface BulkAnswer {
  command_id: string;
  dry_run: boolean;
  results: BulkItem[];
}

export interface Usage {
  tokens_in: number | null;
  tokens_out: number | null;
  cost_nano_usd: number | null;
  latency_ms: number | null;
  first_token_ms: number | null;
}

export interface SampleView {
  id: string;
  batch_id: string;
  slot: number;
  attempt: number;
  topic: string;
  area: string;
  difficulty: string;
  sample_type: string;
  model: string;
  provider: string;
  route: string | null;
  content: Record<string, unknown>;
  usage: Usage;
  created_at: string;
  sequence: number;
}

export interface SamplePage {
  samples: SampleView[];
  next_cursor: string | null;
  total: number;
  facets?: Facets;
  as_of: number;
}

export interface EventView {
  sequence: number;
  stored_at: string;
  subject: string;
  event: Record<string, unknown>;
}

export interface EventPage {
  events: EventView[];
  next_cursor: string | null;
  as_of: number;
}

/** A command that was understood and refused: nothing was changed. */
export interface StoredRefusal {
  sequence: number;
  event: {
    time: string;
    actor: { kind: string; id: string; address: string | null };
    command: string;
    command_id: string | null;
    status: number;
    detail: string;
    reason: string;
    repeated: number;
  };
}

export interface RefusalPage {
  refusals: StoredRefusal[];
  next_cursor: number | null;
}

export interface Tally {
  name: string;
  count: number;
}

type Used = "tokens_in" | "tokens_out" | "cost_nano_usd" | "unpriced_batches";

export interface Statistics {
  total: number;
  batches: number;
  states: Partial<Record<State, number>>;
  difficulties: Tally[];
  topics: Tally[];
  sample_types: Tally[];
  models: Tally[];
  average_lengths: Record<string, number>;
  unique_topics: number;
  tokens_in: number;
  tokens_out: number;
  cost_nano_usd: number | null;
  unpriced_batches: number; // The cost is without theirs.
  /** The part of the sums that still moves: what batches that live have made and used. */
  live: (Pick<Statistics, Used> & { samples: number }) | null;
  as_of: number;
}

export interface FieldError {
  field: string;
  message: string;
  value?: unknown;
}

/** application/problem+json, RFC 9457. */
export interface ProblemBody {
  type?: string;
  title?: string;
  status?: number;
  detail?: string;
  errors?: FieldError[];
  batch_id?: string;
  state?: State;
  /** The commands that the batch takes now. */
  allowed?: string[];
  child_id?: string;
}

/** The stream's `all_batches`: every live batch as of a sequence. */
export interface AllBatches {
  batches: Record<string, BatchView>;
  as_of: number;
  server_time: string;
}

/** The stream's `batch_update`: one batch after a change, its last one included. */
export interface BatchUpdate {
  batch: BatchView;
  server_time: string;
}

export interface Heartbeat {
  as_of: number;
  /** The server answers, but the event log behind it does not. */
  log_away?: boolean;
  server_time: string;
}
