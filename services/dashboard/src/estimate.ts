/** What a batch may take, told from batches like it that were made; a guess, and called one. */

import type { Price } from "./choices";
import type { BatchView } from "./contract";

export interface Range {
  low: number;
  high: number;
}

/** What is not known is null. */
export interface Estimate {
  /** How many batches it is told from. */
  basis: number;
  /** Whether they are of the same model; else of the recipe alone. */
  isSameModel: boolean;
  tokens: Range | null;
  nanoUsd: Range | null;
  milliseconds: Range | null;
}

const NOTHING: Estimate = {
  basis: 0,
  isSameModel: false,
  tokens: null,
  nanoUsd: null,
  milliseconds: null,
};

/** Tell from `batches` of one recipe, first those of `model`, what `target` samples would take. */
export function estimate(
  batches: readonly BatchView[],
  model: string,
  price: Price | null,
  target: number,
): Estimate {
  const made = batches.filter(({ counts }) => counts.generated > 0);
  const same = made.filter((batch) => batch.model === model);
  const basis = same.length > 0 ? same : made;
  if (basis.length === 0 || !(target > 0)) return NOTHING;
  const isSameModel = same.length > 0;
  const of = (perSample: (batch: BatchView) => number | null): Range | null =>
    rangeOf(basis.map(perSample), target);
  const byPrice = price && of((batch) => priced(batch, price) / batch.counts.generated);
  const asSpent = isSameModel
    ? of(({ counts }) =>
        counts.unpriced_calls ? null : counts.cost_nano_usd && counts.cost_nano_usd / counts.generated,
      )
    : null;
  return {
    basis: basis.length,
    isSameModel,
    tokens: of(({ counts }) => (counts.tokens_in + counts.tokens_out) / counts.generated),
    nanoUsd: byPrice ?? asSpent,
    milliseconds: isSameModel ? of(timePerSample) : null,
  };
}

function rangeOf(perSample: readonly (number | null)[], target: number): Range | null {
  const known = perSample.filter((value) => value !== null);
  if (known.length === 0) return null;
  return { low: Math.min(...known) * target, high: Math.max(...known) * target };
}

function priced({ counts }: BatchView, price: Price): number {
  const { input_nano_usd_per_1k, output_nano_usd_per_1k } = price;
  return (
    (counts.tokens_in * input_nano_usd_per_1k + counts.tokens_out * output_nano_usd_per_1k) / 1000
  );
}

function timePerSample({ started_at, finished_at, counts }: BatchView): number | null {
  if (finished_at === null) return null;
  return (Date.parse(finished_at) - Date.parse(started_at)) / counts.generated;
}
