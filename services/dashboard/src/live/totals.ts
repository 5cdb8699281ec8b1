/** What all batches together have made, moved on with the stream from what the read model told last. */

import type { BatchView, Statistics } from "../contract";
import { isUnpriced, tokens } from "../words";

export interface Totals {
  samples: number;
  tokens: number;
  nanoUsd: number | null;
  /** Batches with tokens of unknown price, which `nanoUsd` is without. */
  unpriced: number;
}

/** The totals of `told`; moved on where `now` has the batches that live or have ended since. */
export function totals(told: Statistics, now: readonly BatchView[] | null): Totals {
  const before = told.live;
  if (before === null || now === null) return sums(told, []);
  const ended = {
    total: told.total - before.samples,
    tokens_in: told.tokens_in - before.tokens_in,
    tokens_out: told.tokens_out - before.tokens_out,
    cost_nano_usd: less(told.cost_nano_usd, before.cost_nano_usd),
    unpriced_batches: told.unpriced_batches - before.unpriced_batches,
  };
  return sums(ended, now);
}

/** How many of these used tokens whose price is not known. */
export function unpriced(batches: readonly BatchView[]): number {
  return batches.filter(({ counts }) => isUnpriced(counts)).length;
}

type Told = Pick<
  Statistics,
  "total" | "tokens_in" | "tokens_out" | "cost_nano_usd" | "unpriced_batches"
>;

function sums(told: Told, now: readonly BatchView[]): Totals {
  const costs = [told.cost_nano_usd, ...now.map(({ counts }) => counts.cost_nano_usd)];
  const known = costs.filter((cost) => cost !== null);
  const all = (amounts: readonly number[]): number => amounts.reduce((sum, one) => sum + one, 0);
  return {
    samples: told.total + all(now.map(({ counts }) => counts.generated)),
    tokens: told.tokens_in + told.tokens_out + all(now.map(({ counts }) => tokens(counts))),
    nanoUsd: known.length > 0 ? all(known) : null,
    unpriced: told.unpriced_batches + unpriced(now),
  };
}

/** Nothing is left where all that is known was that of live batches. */
function less(all: number | null, part: number | null): number | null {
  return all === null || all === part ? null : all - (part ?? 0);
}
