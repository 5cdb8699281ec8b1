import { expect, test } from "vitest";

import type { TimelineRow } from "../src/analysis";
import { bucketsOf, busyOf, dressOf, lineOf, linesOf } from "../src/series";

const MINUTES = ["10:00", "10:01", "10:02", "10:03"].map((time) => `2026-03-01T${time}:00Z`);
const SECONDS = MINUTES.map((time) => Date.parse(time) / 1000);

function row(minute: number, provider: string, told: Partial<TimelineRow> = {}): TimelineRow {
  return {
    start: MINUTES[minute] ?? "",
    model: null,
    provider,
    attempts: 6,
    samples: 6,
    failures: 0,
    failed_slots: 0,
    failure_ratio: 0,
    samples_per_s: 0.1,
    tokens_in: 60,
    tokens_out: 60,
    cost_nano_usd: null,
    latency_ms: { p50: 5, p95: 7, p99: 9 },
    ...told,
  };
}

test("a line per model names its provider where the name does not", () => {
  const rows = [
    { model: "openai/a", provider: "openai" },
    { model: "a", provider: "openai" },
    { model: "a", provider: "local" },
  ];
  expect(rows.map(lineOf)).toEqual(["openai/a", "a (openai)", "a (local)"]);
});

test("a line of all models of a provider bears its name", () => {
  expect(lineOf({ model: null, provider: "openai" })).toBe("openai");
});

test("the axis is the whole range of the answer, and the table names what is busy in it", () => {
  const answer = { start: MINUTES[0] ?? null, end: MINUTES[3] ?? null, bucket_s: 60 };
  expect(bucketsOf(answer)).toEqual(SECONDS.slice(0, 3));
  expect(bucketsOf({ ...answer, start: null, end: null })).toEqual([]);
  expect(busyOf([row(2, "b"), row(0, "a"), row(2, "a")])).toEqual([SECONDS[0], SECONDS[2]]);
});

test("a count of no calls is 0; a percentile of them, and what has no price, is unknown", () => {
  const rows = [row(2, "local", { cost_nano_usd: 7 }), row(0, "api"), row(0, "local")];
  const told = (of: (row: TimelineRow) => number | null, isCount: boolean) =>
    linesOf(rows, of, isCount).map(({ name, at }) => [name, ...SECONDS.slice(0, 3).map(at)]);
  expect(told((one) => one.samples_per_s, true)).toEqual([
    ["api", 0.1, 0, 0],
    ["local", 0.1, 0, 0.1],
  ]);
  expect(told((one) => one.latency_ms.p50, false)).toEqual([
    ["api", 5, null, null],
    ["local", 5, null, 5],
  ]);
  expect(told((one) => one.cost_nano_usd, true)).toEqual([
    ["api", null, null, null],
    ["local", null, 0, 7],
  ]);
});

test("of 28 lines no two are dressed alike, neither in the chart nor in its legend", () => {
  const dresses = Array.from({ length: 28 }, (_, place) => dressOf(place));
  expect(new Set(dresses.map(({ colour, dash }) => colour + dash.join())).size).toBe(28);
  expect(new Set(dresses.map(({ colour, border }) => colour + border)).size).toBe(28);
});
