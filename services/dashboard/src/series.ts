/** The lines of the statistics' charts: of each model of each provider, or of each provider. */

import type { TimelineRow } from "./analysis";

export type Split = "model" | "provider";

/** What one line has in one bucket. */
export interface Point extends TimelineRow {
  line: string;
}

export function pointsOf(rows: readonly TimelineRow[], split: Split): Point[] {
  const points = new Map<string, Point>();
  for (const row of rows) {
    const line = split === "provider" ? row.provider : lineOfModel(row);
    const key = `${row.start} ${line}`;
    const held = points.get(key);
    points.set(key, held ? together(held, row) : { ...row, line });
  }
  return [...points.values()];
}

function lineOfModel({ model, provider }: TimelineRow): string {
  return model.startsWith(`${provider}/`) ? model : `${model} (${provider})`;
}

// Percentiles of all calls can't be told from those of each model's.
const NO_LATENCY = { p50: null, p95: null, p99: null };

function together(a: Point, b: TimelineRow): Point {
  const attempts = a.attempts + b.attempts;
  const failures = a.failures + b.failures;
  return {
    ...a,
    attempts,
    failures,
    samples: a.samples + b.samples,
    failed_slots: a.failed_slots + b.failed_slots,
    failure_ratio: attempts > 0 ? failures / attempts : null,
    samples_per_s: a.samples_per_s + b.samples_per_s,
    tokens_in: known(a.tokens_in, b.tokens_in),
    tokens_out: known(a.tokens_out, b.tokens_out),
    cost_nano_usd: known(a.cost_nano_usd, b.cost_nano_usd),
    latency_ms: a.samples === 0 ? b.latency_ms : b.samples === 0 ? a.latency_ms : NO_LATENCY,
  };
}

/** The sum of what is known of both; null when neither is. */
function known(a: number | null, b: number | null): number | null {
  return a === null && b === null ? null : (a ?? 0) + (b ?? 0);
}
