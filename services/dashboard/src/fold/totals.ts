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
  unpriced_calls: null,
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
    tokens_in: moved(totals.tokens_in, old.tokens_in, next.tokens_in),
    tokens_out: moved(totals.tokens_out, old.tokens_out, next.tokens_out),
    cost_nano_usd: spent(totals.cost_nano_usd, old.cost_nano_usd, next.cost_nano_usd),
    wasted_nano_usd: spent(totals.wasted_nano_usd, old.wasted_nano_usd, next.wasted_nano_usd),
    unpriced_calls: spent(totals.unpriced_calls, old.unpriced, next.unpriced),
    unconfirmed_calls: totals.unconfirmed_calls + next.unconfirmed - old.unconfirmed,
  };
}

function grown(old: string, next: string): number {
  return old === next ? 0 : countOf(maskOf(next)) - countOf(maskOf(old));
}

function spent(total: number | null, old: number | null, next: number | null): number | null {
  return next === null ? total : moved(total ?? 0, old ?? 0, next);
}

/** A sum that stops where numbers are no longer exact. */
function moved(total: number, old: number, next: number): number {
  return Math.min(Number.MAX_SAFE_INTEGER, total + next - old);
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
