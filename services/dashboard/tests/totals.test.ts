import { expect, test } from "vitest";

import type { Statistics } from "../src/contract";
import { totals } from "../src/live/totals";
import { batch, counts } from "./builders";

function told(own: Partial<Statistics> = {}): Statistics {
  return {
    total: 100,
    batches: 3,
    states: {},
    difficulties: [],
    topics: [],
    sample_types: [],
    models: [],
    average_lengths: {},
    unique_topics: 0,
    tokens_in: 1_000,
    tokens_out: 2_000,
    cost_nano_usd: 500,
    unpriced_batches: 2,
    live: { samples: 10, tokens_in: 100, tokens_out: 200, cost_nano_usd: 50, unpriced_batches: 1 },
    as_of: 7,
    ...own,
  };
}

const used = (generated: number, cost_nano_usd: number | null) =>
  batch({ counts: counts({ generated, tokens_in: generated, tokens_out: 0, cost_nano_usd }) });

test("totals are those of ended batches with what live ones have made by now", () => {
  expect(totals(told(), [used(12, 60), used(3, null)])).toEqual({
    samples: 105,
    tokens: 2_715,
    nanoUsd: 510,
    unpriced: 2,
  });
});

test("a live batch counts as unpriced once one of its calls had no known price", () => {
  const mixed = batch({ counts: counts({ generated: 2, cost_nano_usd: 60, unpriced_calls: 1 }) });
  expect(totals(told(), [mixed])).toMatchObject({ nanoUsd: 510, unpriced: 2 });
});

test("a moment that stands still has the totals that were told of it", () => {
  const still = { samples: 100, tokens: 3_000, nanoUsd: 500, unpriced: 2 };
  expect(totals(told(), null)).toEqual(still);
  expect(totals(told({ live: null }), [used(12, 60)])).toEqual(still);
});

test("a cost of which nothing is known is not zero", () => {
  const live = { samples: 1, tokens_in: 1, tokens_out: 0, cost_nano_usd: 500, unpriced_batches: 0 };
  expect(totals(told({ live }), [used(3, null)]).nanoUsd).toBeNull();
});
