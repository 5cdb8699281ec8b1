import { describe, expect, test } from "vitest";

import { Pace } from "../src/live/pace";
import { paceWords } from "../src/words";
import { batch, counts } from "./builders";

const START = Date.parse("2026-01-01T00:00:00Z");

function seen(second: number, generated: number) {
  return batch({
    started_at: new Date(START).toISOString(),
    last_progress_at: new Date(START + second * 1000).toISOString(),
    counts: counts({ generated, pending: 1000 - generated }),
  });
}

describe("the pace", () => {
  test("is that of the whole run until the page has seen enough", () => {
    const pace = new Pace();
    pace.note(seen(100, 200));
    expect(pace.perSecond(seen(100, 200), START + 100_000)).toBe(2);
    expect(pace.perSecond(seen(0, 0), START + 100_000)).toBeNull();
    expect(pace.perSecond(seen(0, 3), START + 500)).toBeNull();
  });

  test("is that of the last minute then, and falls while nothing comes", () => {
    const pace = new Pace();
    for (let second = 100; second <= 220; second += 1) pace.note(seen(second, 10 * second));
    const last = seen(220, 2200);
    expect(pace.perSecond(last, START + 220_000)).toBe(10);
    expect(pace.perSecond(last, START + 240_000)).toBeCloseTo(400 / 60, 6);
    expect(pace.perSecond(last, START + 400_000)).toBe(0);
  });

  test("forgets a batch that has ended", () => {
    const pace = new Pace();
    pace.note(seen(100, 200));
    pace.note({ ...seen(160, 800), state: "paused" });
    expect(pace.perSecond(seen(160, 800), START + 160_000)).toBe(10);
    pace.note({ ...seen(160, 800), state: "stopped" });
    expect(pace.perSecond(seen(160, 800), START + 160_000)).toBe(5);
  });
});

test("a pace is told by the second or by the minute", () => {
  expect([0, 0.05, 0.99, 1, 9.96, 10, 1234.5].map(paceWords)).toEqual([
    "0/min",
    "3/min",
    "59/min",
    "1.0/s",
    "10.0/s",
    "10/s",
    "1,235/s",
  ]);
});
