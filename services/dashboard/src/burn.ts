/** How a batch's cost, or its tokens where no price is known, grew; and where it may end. */

import type { Figures, Timeline, TimelineRow } from "./analysis";
import type { BatchView } from "./contract";

export interface Burn {
  isMoney: boolean;
  /** Seconds since 1970, ascending. */
  times: number[];
  spent: (number | null)[];
  /** From the last known point to the end. */
  projected: (number | null)[];
  budget: number | null;
  /** By the hour, over what was looked at last. */
  perHour: number | null;
  projectedEnd: number | null;
  /** When the budget is reached at this pace, in seconds since 1970; null if never. */
  budgetAt: number | null;
}

/** `now` in milliseconds: the last point of a batch that goes on. */
export function burnOf(
  batch: BatchView,
  timeline: Timeline,
  figures: Figures | undefined,
  now: number,
): Burn {
  const { counts, budgets } = batch;
  const isMoney = counts.cost_nano_usd !== null && counts.cost_nano_usd > 0;
  const total = isMoney ? counts.cost_nano_usd : counts.tokens_in + counts.tokens_out;
  const budget = isMoney ? budgets.max_cost_nano_usd : budgets.max_tokens;
  const start = Date.parse(batch.started_at) / 1000;
  const last = Math.max(start, (batch.finished_at ? Date.parse(batch.finished_at) : now) / 1000);
  const points = cumulated(timeline, isMoney).filter(([time]) => time > start && time < last);
  const times = [start, ...points.map(([time]) => time), last];
  const spent: (number | null)[] = [0, ...points.map(([, value]) => value), total];
  const perHour = pace(times, spent);
  const left = counts.generated > 0 ? counts.pending / counts.generated : null;
  const byPace = left === null || total === null ? null : total * (1 + left);
  const isOver = batch.finished_at !== null;
  const projectedEnd = isOver
    ? null
    : isMoney
      ? counts.unpriced_calls // Nobody knows what those have cost.
        ? null
        : (figures?.cost.projected_nano_usd ?? byPace)
      : byPace;
  const projected: (number | null)[] = times.map((_, place) =>
    place === times.length - 1 ? total : null,
  );
  const end = figures?.eta_at ? Date.parse(figures.eta_at) / 1000 : null;
  if (projectedEnd !== null && end !== null && end > last) {
    times.push(end);
    spent.push(null);
    projected.push(projectedEnd);
  }
  const seconds =
    !isOver && budget !== null && total !== null && perHour
      ? ((budget - total) / perHour) * 3600
      : null;
  // A batch that ends within its budget never reaches it.
  const isWithin = budget !== null && projectedEnd !== null && projectedEnd <= budget;
  const budgetAt = seconds !== null && seconds > 0 && !isWithin ? last + seconds : null;
  return { isMoney, times, spent, projected, budget, perHour, projectedEnd, budgetAt };
}

/** The sum so far at the end of each bucket. */
function cumulated({ rows, bucket_s }: Timeline, isMoney: boolean): [number, number][] {
  const byStart = new Map<number, number>();
  for (const row of rows) {
    const start = Date.parse(row.start) / 1000;
    byStart.set(start, (byStart.get(start) ?? 0) + (amount(row, isMoney) ?? 0));
  }
  let sum = 0;
  return [...byStart]
    .sort(([one], [other]) => one - other)
    .map(([start, value]) => [start + bucket_s, (sum += value)]);
}

function amount(row: TimelineRow, isMoney: boolean): number | null {
  if (isMoney) return row.cost_nano_usd;
  return row.tokens_in === null || row.tokens_out === null ? null : row.tokens_in + row.tokens_out;
}

/** What is used by the hour, over the last five minutes or what there is of them. */
function pace(times: readonly number[], spent: readonly (number | null)[]): number | null {
  const end = times.at(-1) ?? 0;
  const from = Math.max(0, times.findLastIndex((time) => time <= end - 300));
  const [used, seconds] = [(spent.at(-1) ?? 0) - (spent[from] ?? 0), end - (times[from] ?? end)];
  return seconds >= 1 ? (used / seconds) * 3600 : null;
}
