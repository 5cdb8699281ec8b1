import { describe, expect, test } from "vitest";

import { COURSE_STEPS, courseLine, Pace, sum } from "../src/live/pace";
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

  test("of a slow batch is that of the whole run until the page has watched it for a minute", () => {
    const pace = new Pace();
    const slow = seen(100, 4); // 2.4 a minute, the last one 20 s before the page was opened
    pace.note(slow);
    expect(pace.perSecond(slow, START + 120_000)).toBeCloseTo(4 / 120, 6);
    expect(pace.perSecond(slow, START + 159_000)).toBeCloseTo(4 / 159, 6);
    expect(pace.perSecond(slow, START + 160_000)).toBe(0);
  });

  test("is told of tokens and cost over the same time, and summed", () => {
    const pace = new Pace();
    const at = (second: number, spent: number | null) => {
      const view = seen(second, 10 * second);
      return { ...view, counts: { ...view.counts, tokens_out: 50 * second, cost_nano_usd: spent } };
    };
    for (let second = 100; second <= 220; second += 1) pace.note(at(second, 2000 * second));
    const dear = pace.rates(at(220, 440_000), START + 220_000);
    expect(dear).toEqual({ samples: 10, tokens: 50, nanoUsd: 2000 });
    const young = new Pace().rates(at(100, null), START + 100_000);
    expect(young).toEqual({ samples: 10, tokens: 50, nanoUsd: null });
    if (!dear || !young) throw new Error("both are known");
    expect(sum([dear, young])).toEqual({ samples: 20, tokens: 100, nanoUsd: 2000 });
    expect(sum([young]).nanoUsd).toBeNull();
    expect(sum([])).toEqual({ samples: 0, tokens: 0, nanoUsd: 0 });
    const failing = { ...at(220, 9000), counts: counts({ cost_nano_usd: 1000 }) };
    expect(new Pace().rates(failing, START + 1000)?.nanoUsd).toBe(1000);
  });

  test("has a course of the last minute, as far as this page saw it", () => {
    const pace = new Pace();
    const at = (second: number): number => START + second * 1000;
    expect(pace.course(seen(100, 200), at(100))).toEqual([]);
    for (let second = 100; second <= 112; second += 1) pace.note(seen(second, 10 * second));
    // From 100 to 112 seconds are whole the steps 102 to 105, 108 and 111.
    expect(pace.course(seen(112, 1120), at(112))).toEqual([10, 10, 10]);
    // Then nothing came for six seconds, and before that a sample more than was noted.
    const course = pace.course(seen(112, 1120), at(120));
    expect(course.slice(0, 3)).toEqual([10, 10, 10]);
    expect(course[3]).toBeCloseTo(10 / 3, 6);
    expect(course.slice(4)).toEqual([0, 0]);
    for (let second = 120; second <= 300; second += 1) pace.note(seen(second, 10 * second));
    expect(pace.course(seen(300, 3000), at(300))).toEqual(Array(COURSE_STEPS).fill(10));
  });

  test("has its course as a line that ends at the right, the highest rate at the top", () => {
    expect(courseLine([])).toBe("");
    expect(courseLine([3])).toBe("");
    expect(courseLine([5, 0, 10])).toBe("17,0.5 18,1 19,0");
    expect(courseLine([0, 0])).toBe("18,1 19,1");
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
