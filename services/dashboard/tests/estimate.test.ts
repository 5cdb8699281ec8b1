import { describe, expect, it } from "vitest";

import { estimate } from "../src/estimate";
import { batch, counts } from "./builders";

const PRICE = { input_nano_usd_per_1k: 1_000_000, output_nano_usd_per_1k: 2_000_000 };

function ended(generated: number, tokens: number, seconds: number, model = "simulated/fast") {
  return batch({
    model,
    state: "completed",
    started_at: "2026-09-21T12:00:00Z",
    finished_at: new Date(Date.parse("2026-09-21T12:00:00Z") + seconds * 1000).toISOString(),
    counts: counts({ generated, tokens_in: tokens, tokens_out: tokens }),
  });
}

describe("an estimate", () => {
  it("spans what batches of the same model took", () => {
    const found = estimate(
      [ended(10, 1000, 5), ended(20, 4000, 40)],
      "simulated/fast",
      PRICE,
      100,
    );
    expect(found.basis).toBe(2);
    expect(found.tokens).toEqual({ low: 20_000, high: 40_000 });
    expect(found.milliseconds).toEqual({ low: 50_000, high: 200_000 });
    expect(found.nanoUsd).toEqual({ low: 30_000_000, high: 60_000_000 });
  });

  it("takes another model's tokens and this one's price, and knows no time then", () => {
    const found = estimate([ended(10, 1000, 5, "another")], "simulated/fast", PRICE, 10);
    expect(found.isSameModel).toBe(false);
    expect(found.tokens).toEqual({ low: 2000, high: 2000 });
    expect(found.nanoUsd).toEqual({ low: 3_000_000, high: 3_000_000 });
    expect(found.milliseconds).toBeNull();
  });

  it("knows nothing without a batch, and no cost without a price", () => {
    expect(estimate([], "simulated/fast", PRICE, 10).tokens).toBeNull();
    expect(estimate([batch()], "simulated/fast", PRICE, 10).basis).toBe(0);
    expect(estimate([ended(1, 1, 1)], "simulated/fast", null, 10).nanoUsd).toBeNull();
  });

  it("keeps a cost of nothing apart from an unknown one", () => {
    const free = { input_nano_usd_per_1k: 0, output_nano_usd_per_1k: 0 };
    expect(estimate([ended(1, 1, 1)], "simulated/fast", free, 10).nanoUsd).toEqual({
      low: 0,
      high: 0,
    });
  });
});
