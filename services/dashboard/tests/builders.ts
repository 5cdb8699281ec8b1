/** Batches for tests: whole views with only the telling parts written down. */

import type { BatchView, Counts } from "../src/contract";

export function counts(change: Partial<Counts> = {}): Counts {
  return {
    generated: 0,
    failed: 0,
    abandoned: 0,
    pending: 10,
    rejected: 0,
    attempts_failed: 0,
    tokens_in: 0,
    tokens_out: 0,
    cost_nano_usd: null,
    wasted_nano_usd: null,
    unpriced_calls: null,
    unconfirmed_calls: 0,
    ...change,
  };
}

export function batch(change: Partial<BatchView> = {}): BatchView {
  return {
    id: "batch_1790000000_00000001",
    dataset_id: "default",
    parent_id: null,
    state: "running",
    model: "simulated/fast",
    provider: "simulated",
    recipe: "legal-qa",
    recipe_hash: "0",
    target: 10,
    counts: counts(),
    concurrency: 4,
    slice_size: 1,
    seed: 1,
    priority: "normal",
    pool: "default",
    topic: null,
    difficulty: null,
    sample_type: null,
    instruction: null,
    smart_mode: false,
    started_by: "user",
    started_at: "2026-09-21T12:00:00Z",
    last_progress_at: null,
    finished_at: null,
    stop_reason: null,
    stopped_by: null,
    error: null,
    last_error: null,
    errors: {},
    stuck: null,
    held_up: null,
    budgets: {
      max_cost_nano_usd: null,
      max_tokens: null,
      max_duration_s: null,
      max_failure_ratio: null,
      max_attempts: null,
    },
    budgets_warned: [],
    retry_id: null,
    child_id: null,
    anomalies: 0,
    version: 1,
    sequence: 1,
    ...change,
  };
}
