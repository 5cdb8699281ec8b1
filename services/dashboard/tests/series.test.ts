import { expect, test } from "vitest";

import type { TimelineRow } from "../src/analysis";
import { pointsOf } from "../src/series";

const LATENCY = { p50: 10, p95: 20, p99: 30 };
const UNTOLD = { p50: null, p95: null, p99: null };

function row(model: string, provider: string, own: Partial<TimelineRow> = {}): TimelineRow {
  return {
    start: "2026-01-01T00:00:00Z",
    model,
    provider,
    attempts: 4,
    samples: 3,
    failures: 1,
    failed_slots: 0,
    failure_ratio: 0.25,
    samples_per_s: 0.05,
    tokens_in: 10,
    tokens_out: null,
    cost_nano_usd: null,
    latency_ms: LATENCY,
    ...own,
  };
}

test("a line per model names its provider where the name does not", () => {
  const rows = [row("openai/a", "openai"), row("a", "openai"), row("a", "local")];
  const lines = pointsOf(rows, "model").map(({ line }) => line);
  expect(lines).toEqual(["openai/a", "a (openai)", "a (local)"]);
});

test("a line per provider adds up its models and tells no percentile of both", () => {
  const rows = [
    row("a", "openai"),
    row("b", "openai", { attempts: 12, failures: 7, tokens_out: 5, cost_nano_usd: 2 }),
    row("c", "local"),
    row("a", "openai", { start: "2026-01-01T00:01:00Z" }),
  ];
  const [both, local, later] = pointsOf(rows, "provider");
  expect(both).toMatchObject({ line: "openai", attempts: 16, samples: 6, failure_ratio: 0.5 });
  expect(both).toMatchObject({ tokens_in: 20, tokens_out: 5, cost_nano_usd: 2 });
  expect(both?.samples_per_s).toBeCloseTo(0.1);
  expect(both?.latency_ms).toEqual(UNTOLD);
  expect([local?.line, local?.latency_ms, later?.latency_ms]).toEqual(["local", LATENCY, LATENCY]);
});

test("a model without a sample leaves the other's latency as it is", () => {
  const failed = row("a", "openai", { samples: 0, latency_ms: UNTOLD });
  for (const rows of [[failed, row("b", "openai")], [row("b", "openai"), failed]])
    expect(pointsOf(rows, "provider").map((one) => one.latency_ms)).toEqual([LATENCY]);
});
