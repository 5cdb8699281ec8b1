import { describe, expect, it } from "vitest";

import type { Figures, Timeline, TimelineRow } from "../src/analysis";
import { burnOf } from "../src/burn";
import { batch, counts } from "./builders";

const START = Date.parse("2026-09-21T12:00:00Z");
const minute = (place: number): string => new Date(START + place * 60_000).toISOString();

function timeline(...costs: number[]): Timeline {
  const rows = costs.map(
    (cost, place) =>
      ({ start: minute(place), tokens_in: 1, tokens_out: 1, cost_nano_usd: cost }) as TimelineRow,
  );
  const whole = { start: null, end: null, first_samples: [], unpriced_batches: 0, as_of: 1 };
  return { bucket: "minute", bucket_s: 60, rows, ...whole };
}

function running(cost: number | null, max: number | null = null) {
  const view = batch({ started_at: minute(0), target: 40 });
  return {
    ...view,
    counts: counts({ generated: 10, pending: 30, tokens_in: 50, tokens_out: 50, cost_nano_usd: cost }),
    budgets: { ...view.budgets, max_cost_nano_usd: max },
  };
}

describe("the burn of a batch", () => {
  it("sums its minutes up and ends with what is known now", () => {
    const burn = burnOf(running(90), timeline(20, 40, 30), undefined, START + 150_000);
    expect(burn.isMoney).toBe(true);
    expect(burn.times.map((time) => time - START / 1000)).toEqual([0, 60, 120, 150]);
    expect(burn.spent).toEqual([0, 20, 60, 90]);
    expect(burn.perHour).toBe(90 * 24);
    expect(burn.projectedEnd).toBe(360);
  });

  it("leads on to the projected end, and tells when a budget is reached", () => {
    const figures = {
      eta_at: minute(10),
      cost: { projected_nano_usd: 400 },
    } as unknown as Figures;
    const burn = burnOf(running(60, 120), timeline(60), figures, START + 60_000);
    expect(burn.projected).toEqual([null, 60, 400]);
    expect(burn.spent).toEqual([0, 60, null]);
    expect(burn.budgetAt).toBe(START / 1000 + 120);
  });

  it("tells tokens where no cost is known, and projects nothing once it is over", () => {
    const over = { ...running(null), finished_at: minute(1), state: "stopped" as const };
    const burn = burnOf(over, timeline(0), undefined, START + 999_000);
    expect([burn.isMoney, burn.spent.at(-1), burn.projectedEnd]).toEqual([false, 100, null]);
    expect(burn.times.at(-1)).toBe(START / 1000 + 60);
  });
});
