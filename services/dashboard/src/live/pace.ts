/** How fast batches go: over the last minute, or since the start where this page saw too little of it. */

import { isLive, type BatchView, type Counts } from "../contract";
import { tokens } from "../words";

const WINDOW_MS = 60_000;
/** What was seen for less long says less than the whole run, as do fewer samples in a shorter time. */
const SEEN_LEAST_MS = 5_000;
const SEEN_LEAST_SAMPLES = 10;
const MARK_GAP_MS = 1_000;
/** So many steps has the course of the last minute. */
export const COURSE_STEPS = 20;
const STEP_MS = WINDOW_MS / COURSE_STEPS;

/** What was made and paid for: in all, or in each second. `nanoUsd` is null while no price is known. */
export interface Made {
  samples: number;
  tokens: number;
  nanoUsd: number | null;
}

interface Mark extends Made {
  at: number;
}

export class Pace {
  readonly #marks = new Map<string, Mark[]>();

  /** Take in a newer view of a batch. */
  note(batch: BatchView): void {
    if (!isLive(batch.state)) return this.forget(batch.id);
    const at = Date.parse(batch.last_progress_at ?? "");
    if (Number.isNaN(at)) return;
    const marks = this.#marks.get(batch.id) ?? [];
    const last = marks.at(-1);
    if (last && at - last.at < MARK_GAP_MS) return;
    marks.push({ at, ...made(batch.counts) });
    while (marks.length > 1 && (marks[1]?.at ?? at) <= at - WINDOW_MS) marks.shift();
    this.#marks.set(batch.id, marks);
  }

  forget(id: string): void {
    this.#marks.delete(id);
  }

  /** Samples a second at `now` (ms); null while there is nothing to tell it from. */
  perSecond(batch: BatchView, now: number): number | null {
    return batch.counts.generated === 0 ? null : (this.rates(batch, now)?.samples ?? null);
  }

  /**
   * Samples a second in each step of the last minute that this page saw whole, the latest last. Steps
   * begin at whole multiples of their length, so that one that is told stays as it was told.
   */
  course(batch: BatchView, now: number): number[] {
    const marks = this.#marks.get(batch.id) ?? [];
    const [first] = marks;
    if (!first) return [];
    const { counts, last_progress_at } = batch;
    const latest = Math.max(Date.parse(last_progress_at ?? ""), marks.at(-1)!.at);
    const seen: Seen[] = [
      ...marks,
      { at: latest, samples: counts.generated },
      { at: Math.max(now, latest), samples: counts.generated },
    ];
    const rates: number[] = [];
    const end = Math.floor(now / STEP_MS) * STEP_MS;
    let next = 0;
    let before: number | null = null;
    for (let at = end - WINDOW_MS; at <= end; at += STEP_MS) {
      if (at < first.at) continue;
      while (next < seen.length && seen[next]!.at <= at) next += 1;
      const made: number = madeAt(at, seen[next - 1]!, seen[next]);
      if (before !== null) rates.push((1000 * (made - before)) / STEP_MS);
      before = made;
    }
    return rates;
  }

  /** As `perSecond`, of all that is made and paid for. */
  rates(batch: BatchView, now: number): Made | null {
    const marks = this.#marks.get(batch.id) ?? [];
    const younger = marks.findIndex(({ at }) => at > now - WINDOW_MS);
    const base = younger < 0 ? marks.at(-1) : marks[Math.max(0, younger - 1)];
    if (base && isTelling(base, batch, now)) return between(base, batch.counts, now - base.at);
    const from = Date.parse(batch.started_at);
    return now - from >= 1000 ? between(NOTHING, batch.counts, now - from) : null;
  }
}

// A slow batch that has made nothing in the seconds since the page was opened has not come to rest.
function isTelling(base: Mark, batch: BatchView, now: number): boolean {
  const seen = now - base.at;
  if (seen >= WINDOW_MS) return true;
  return seen >= SEEN_LEAST_MS && batch.counts.generated - base.samples >= SEEN_LEAST_SAMPLES;
}

type Seen = Pick<Mark, "at" | "samples">;

/** How many samples there were at a time between two at which it is known. */
function madeAt(at: number, before: Seen, after: Seen | undefined): number {
  if (!after) return before.samples;
  const share = (at - before.at) / (after.at - before.at);
  return before.samples + share * (after.samples - before.samples);
}

const NOTHING: Made = { samples: 0, tokens: 0, nanoUsd: null };

function made(counts: Counts): Made {
  return { samples: counts.generated, tokens: tokens(counts), nanoUsd: counts.cost_nano_usd };
}

function between(before: Made, counts: Counts, milliseconds: number): Made {
  const after = made(counts);
  const rate = (more: number): number => (1000 * more) / milliseconds;
  return {
    samples: rate(after.samples - before.samples),
    tokens: rate(after.tokens - before.tokens),
    nanoUsd: after.nanoUsd === null ? null : rate(after.nanoUsd - (before.nanoUsd ?? 0)),
  };
}

/**
 * A course as points of a line, one unit apart and ending at the right; the highest rate is at the top,
 * 0, and none at the bottom, 1. Empty while there are too few for a line.
 */
export function courseLine(rates: readonly number[]): string {
  if (rates.length < 2) return "";
  const most = Math.max(...rates);
  const left = COURSE_STEPS - rates.length;
  // A hundredth is less than a pixel.
  const height = (rate: number): number => Math.round(most > 0 ? 100 - (100 * rate) / most : 100) / 100;
  return rates.map((rate, place) => `${left + place},${height(rate)}`).join(" ");
}

/** All together; the cost is that of the known prices, null where none of several is known. */
export function sum(rates: readonly Made[]): Made {
  const costs = rates.map(({ nanoUsd }) => nanoUsd).filter((cost) => cost !== null);
  return {
    samples: rates.reduce((all, { samples }) => all + samples, 0),
    tokens: rates.reduce((all, one) => all + one.tokens, 0),
    nanoUsd: rates.length > 0 && costs.length === 0 ? null : costs.reduce((all, cost) => all + cost, 0),
  };
}
