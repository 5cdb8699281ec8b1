/** How fast batches go: over the last minute as this page saw it, and until then since the start. */

import { isLive, type BatchView } from "../contract";

const WINDOW_MS = 60_000;
/** What was seen for less long says less than the whole run. */
const SEEN_LEAST_MS = 5_000;
const MARK_GAP_MS = 1_000;

interface Mark {
  at: number;
  generated: number;
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
    marks.push({ at, generated: batch.counts.generated });
    while (marks.length > 1 && (marks[1]?.at ?? at) <= at - WINDOW_MS) marks.shift();
    this.#marks.set(batch.id, marks);
  }

  forget(id: string): void {
    this.#marks.delete(id);
  }

  /** Samples a second at `now` (ms); null while there is nothing to tell it from. */
  perSecond(batch: BatchView, now: number): number | null {
    const { generated } = batch.counts;
    if (generated === 0) return null;
    const marks = this.#marks.get(batch.id) ?? [];
    const younger = marks.findIndex(({ at }) => at > now - WINDOW_MS);
    const base = younger < 0 ? marks.at(-1) : marks[Math.max(0, younger - 1)];
    if (base && now - base.at >= SEEN_LEAST_MS)
      return (1000 * (generated - base.generated)) / (now - base.at);
    const from = Date.parse(batch.started_at);
    return now - from >= 1000 ? (1000 * generated) / (now - from) : null;
  }
}
