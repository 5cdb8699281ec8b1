/** Sums over the slices of a batch, moved on slice by slice: the mirror of `domain/totals.py`. */

import type { Counts, SliceState } from "./events";
import { countOf, maskOf } from "./masks";

export type Totals = Omit<Counts, "pending">;

export const NO_TOTALS: Totals = {
  generated: 0,
  failed: 0,
  abandoned: 0,
  rejected: 0,
  attempts_failed: 0,
  tokens_in: 0,
  tokens_out: 0,
  cost_nano_usd: null,
  wasted_nano_usd: null,
  unconfirmed_calls: 0,
};

/** The sums after one slice went from `old` to `next`. */
export function movedTotals(totals: Totals, old: SliceState, next: SliceState): Totals {
  return {
    generated: totals.generated + grown(old.generated, next.generated),
    failed: totals.failed + grown(old.failed, next.failed),
    abandoned: totals.abandoned + grown(old.abandoned, next.abandoned),
    rejected: totals.rejected + next.rejected - old.rejected,
    attempts_failed: totals.attempts_failed + next.attempts_failed - old.attempts_failed,
    tokens_in: totals.tokens_in + next.tokens_in - old.tokens_in,
    tokens_out: totals.tokens_out + next.tokens_out - old.tokens_out,
    cost_nano_usd: moved(totals.cost_nano_usd, old.cost_nano_usd, next.cost_nano_usd),
    wasted_nano_usd: moved(totals.wasted_nano_usd, old.wasted_nano_usd, next.wasted_nano_usd),
    unconfirmed_calls: totals.unconfirmed_calls + next.unconfirmed - old.unconfirmed,
  };
}

function grown(old: string, next: string): number {
  return old === next ? 0 : countOf(maskOf(next)) - countOf(maskOf(old));
}

function moved(total: number | null, old: number | null, next: number | null): number | null {
  return next === null ? total : (total ?? 0) + next - (old ?? 0);
}

/** A batch's error counts after one slice went from `before` to `after`. */
export function movedErrors(
  errors: Record<string, number>,
  before: SliceState,
  after: SliceState,
): Record<string, number> {
  const changed = { ...errors };
  for (const [category, count] of Object.entries(after.errors)) {
    const growth = count - (before.errors[category] ?? 0);
    if (growth !== 0) changed[category] = (changed[category] ?? 0) + growth;
  }
  return changed;
}
