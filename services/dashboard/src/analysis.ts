/** Answers that look closer: the mirror of `schemas/millstream_schemas/analysis.py`, and quality. */

import type { SampleView, Usage } from "./contract";

export interface Percentiles {
  p50: number | null;
  p95: number | null;
  p99: number | null;
}

export interface ErrorGroup {
  fingerprint: string;
  category: string;
  rule: string | null;
  message: string;
  count: number;
  failed_slots: number;
  /** The first slots that were given up. */
  given_up: number[];
  first_seen: string;
  last_seen: string;
  example: string;
  example_at: { slot: number; attempt: number; sequence: number };
}

export interface Figures {
  batch_id: string;
  at: string;
  rates: { last_minute: number | null; overall: number | null };
  eta_s: number | null;
  eta_at: string | null;
  cost: {
    spent_nano_usd: number | null;
    wasted_nano_usd: number | null;
    projected_nano_usd: number | null;
    per_sample_nano_usd: number | null;
  };
  latency_ms: Percentiles;
  first_token_ms: Percentiles;
  errors: ErrorGroup[];
  error_groups: number;
  as_of: number;
}

export interface AttemptView {
  sequence: number;
  stored_at: string;
  kind: string;
  slot: number;
  attempt: number;
  node: string | null;
  model: string;
  provider: string;
  category: string | null;
  rule: string | null;
  message: string | null;
  answer: string | null;
  status_code: number | null;
  finish_reason: string | null;
  usage: Usage;
  /** The key of the route that was tried; null: no call, or of before that was told. */
  route: string | null;
  address: string | null;
  wait_s: number | null;
  request_id: string | null;
  prompt_hash: string | null;
}

export interface SlotAttempts {
  batch_id: string;
  slot: number;
  slice_index: number;
  topic: string | null;
  difficulty: string | null;
  sample_type: string | null;
  outcome: "generated" | "failed" | "abandoned" | "pending";
  attempts: AttemptView[];
  more: boolean;
  sample: SampleView | null;
  as_of: number;
}

export interface TimelineRow {
  start: string;
  /** Null where rows are per provider. */
  model: string | null;
  provider: string;
  attempts: number;
  samples: number;
  failures: number;
  failed_slots: number;
  failure_ratio: number | null;
  samples_per_s: number;
  tokens_in: number | null;
  tokens_out: number | null;
  cost_nano_usd: number | null;
  latency_ms: Percentiles;
}

export interface FirstSampleRow {
  model: string | null;
  provider: string;
  batches: number;
  first_sample_ms: Percentiles;
}

export interface Timeline {
  bucket: "second" | "minute" | "hour" | "day";
  bucket_s: number;
  start: string | null;
  end: string | null;
  rows: TimelineRow[];
  first_samples: FirstSampleRow[];
  unpriced_batches: number;
  as_of: number;
}

export interface NodeView {
  node: string;
  service: string;
  pool: string;
  in_flight: number;
  started_at: string;
  sequence: number;
  due_sequence: number | null;
  note: string | null;
  alarm: string;
  is_full: boolean;
  unreadable: number;
  beat_at: string;
  lag: number | null;
}

export interface NodeList {
  nodes: NodeView[];
  services: Record<string, number>;
  alarms: string[];
  as_of: number;
}

/** One route to a model, as all generators that use it tell. */
export interface RouteView {
  key: string;
  model: string;
  provider: string;
  litellm_model: string;
  address: string | null;
  state: "ok" | "throttled" | "blocked";
  until: string | null;
  cause: string;
  share: number;
  in_flight: number;
  waiting: number;
  rpm: number | null;
  tpm: number | null;
  max_concurrency: number | null;
  nodes: string[];
}

export interface RouteList {
  routes: RouteView[];
}

/** What answers, and which stream of events it reads. */
export interface About {
  version: string;
  stream: string;
  epoch: string;
  as_of: number;
  page: string | null;
}

/** One step of a search: what it found, and how far it has come, 0 to 1. */
export interface SearchPage {
  samples: SampleView[];
  next_cursor: string | null;
  progress: number;
  as_of: number;
}

export interface Quality {
  batch_id: string;
  total_samples: number;
  total_tokens: number;
  average_tokens: number;
  average_lengths: Record<string, number>;
  difficulties: Record<string, number>;
  topics: Record<string, number>;
  sample_types: Record<string, number>;
  rejected: number;
  failed: number;
  as_of: number;
}
