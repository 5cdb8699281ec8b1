/**
 * The newest known view of every batch on the page, outside React.
 *
 * What comes together is laid out together; each row listens to itself only.
 * A view is taken when its sequence is newer than the one held, so repeats do no harm.
 */

import { isLive, type BatchView } from "../contract";
import { Pace } from "./pace";

/** Ended batches kept for rows that are no longer in any table; older ones are let go. */
const ENDED_KEPT = 500;
const AT_EASE_MS = 1_000;
const HIDDEN_MS = 250;

type Listener = () => void;
/** `previous` is undefined when the batch was not known before. */
export type ChangeListener = (previous: BatchView | undefined, next: BatchView) => void;

/** Runs `flush` once, soon. */
export type Schedule = (flush: () => void) => void;

export class BatchStore {
  readonly #schedule: Schedule;
  readonly #rows = new Map<string, BatchView>();
  readonly #pending = new Map<string, BatchView>();
  readonly #lastSample = new Map<string, string>();
  readonly #pace = new Pace();
  readonly #rowListeners = new Map<string, Set<Listener>>();
  readonly #listListeners = new Set<Listener>();
  readonly #changeListeners = new Set<ChangeListener>();
  #scheduled = false;
  #movedAt = 0;
  #live: readonly string[] = [];
  #stuck: readonly string[] = [];
  #recent: readonly string[] = [];

  constructor(schedule: Schedule) {
    this.#schedule = schedule;
  }

  get(id: string): BatchView | undefined {
    return this.#rows.get(id);
  }

  /** When the latest sample of a batch was stored, as far as this page can tell. */
  lastSampleAt(id: string): string | undefined {
    return this.#lastSample.get(id);
  }

  /** Samples a second of a batch at `now` (ms), null while unknown. */
  perSecond(batch: BatchView, now: number): number | null {
    return this.#pace.perSecond(batch, now);
  }

  /** Ids of the live batches, newest first; the same array until the list changes. */
  live = (): readonly string[] => this.#live;

  /** Ids of the live batches that a watchdog holds for stuck, longest first. */
  stuck = (): readonly string[] => this.#stuck;

  /** Ids of all batches held, newest first. */
  recent = (): readonly string[] => this.#recent;

  /** Take a view, unless a newer one is held. Shown soon. */
  push(batch: BatchView): void {
    const held = this.#pending.get(batch.id) ?? this.#rows.get(batch.id);
    if (held && held.sequence >= batch.sequence) return;
    this.#pending.set(batch.id, batch);
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#schedule(this.flush);
  }

  /**
   * Take all live batches as of `asOf`; return those held as live that are not among them.
   * They have ended since: the caller asks how.
   */
  snapshot(batches: Iterable<BatchView>, asOf: number): BatchView[] {
    const listed = new Set<string>();
    for (const batch of batches) {
      listed.add(batch.id);
      this.push(batch);
    }
    this.flush();
    return this.#live
      .map((id) => this.#rows.get(id))
      .filter((row) => row !== undefined)
      .filter((row) => !listed.has(row.id) && row.sequence <= asOf);
  }

  /** The latest sequence at which a batch came, ended or changed its state. */
  movedAt(): number {
    return this.#movedAt;
  }

  /** Forget sequences of another log: any view that comes is newer than what is held. */
  forgetSequences(): void {
    this.flush();
    this.#movedAt = 0;
    for (const [id, row] of this.#rows) this.#rows.set(id, { ...row, sequence: -1 });
  }

  /** Let a batch go that the server does not know. */
  drop(id: string): void {
    this.#pending.delete(id);
    this.#lastSample.delete(id);
    this.#pace.forget(id);
    if (!this.#rows.delete(id)) return;
    this.#sortLists();
    this.#notify(this.#rowListeners.get(id));
    this.#notify(this.#listListeners);
  }

  /** Lay out what came since the last time. */
  flush = (): void => {
    this.#scheduled = false;
    if (this.#pending.size === 0) return;
    const changes = [...this.#pending.values()].map(
      (next) => [this.#rows.get(next.id), next] as const,
    );
    this.#pending.clear();
    let listsMoved = false;
    for (const [previous, next] of changes) {
      this.#rows.set(next.id, next);
      this.#noteSample(previous, next);
      this.#pace.note(next);
      if (previous?.state !== next.state) this.#movedAt = Math.max(this.#movedAt, next.sequence);
      listsMoved ||= previous?.state !== next.state || isStuck(previous) !== isStuck(next);
    }
    if (listsMoved) this.#sortLists();
    for (const [, next] of changes) this.#notify(this.#rowListeners.get(next.id));
    if (listsMoved) this.#notify(this.#listListeners);
    for (const [previous, next] of changes) {
      for (const listener of this.#changeListeners) listener(previous, next);
    }
  };

  /** Call `listener` at every change of one batch; returns the way to stop that. */
  onRow(id: string, listener: Listener): () => void {
    const listeners = this.#rowListeners.get(id) ?? new Set();
    this.#rowListeners.set(id, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#rowListeners.get(id) === listeners) {
        this.#rowListeners.delete(id);
      }
    };
  }

  /** As `onRow`, but of mere progress once a second only: for what nobody sees. */
  onRowAtEase(id: string, listener: Listener): () => void {
    let state = this.get(id)?.state;
    let due: ReturnType<typeof setTimeout> | undefined;
    const tell = (): void => {
      clearTimeout(due);
      due = undefined;
      state = this.get(id)?.state;
      listener();
    };
    const stop = this.onRow(id, () => {
      if (this.get(id)?.state !== state) tell();
      else due ??= setTimeout(tell, AT_EASE_MS);
    });
    return () => {
      clearTimeout(due);
      stop();
    };
  }

  /** Call `listener` when a batch comes, ends, changes its state, or gets stuck or unstuck. */
  onLists = (listener: Listener): (() => void) => {
    this.#listListeners.add(listener);
    return () => this.#listListeners.delete(listener);
  };

  /** Call `listener` with each laid-out change of any batch. */
  onChange(listener: ChangeListener): () => void {
    this.#changeListeners.add(listener);
    return () => this.#changeListeners.delete(listener);
  }

  // `last_progress_at` moves with failed attempts too, so it is a sample's time only if the
  // number of samples moved with it, or if nothing has failed yet.
  #noteSample(previous: BatchView | undefined, next: BatchView): void {
    const { generated, attempts_failed, rejected, failed } = next.counts;
    const isSample = previous
      ? generated > previous.counts.generated
      : generated > 0 && attempts_failed + rejected + failed === 0;
    if (isSample && next.last_progress_at) this.#lastSample.set(next.id, next.last_progress_at);
  }

  #sortLists(): void {
    const rows = [...this.#rows.values()].sort(newestFirst);
    const ended = rows.filter((row) => !isLive(row.state));
    for (const row of ended.slice(ENDED_KEPT)) {
      this.#rows.delete(row.id);
      this.#lastSample.delete(row.id);
    }
    const live = rows.filter((row) => isLive(row.state));
    this.#recent = rows.filter((row) => this.#rows.has(row.id)).map((row) => row.id);
    this.#live = live.map((row) => row.id);
    this.#stuck = live
      .filter(isStuck)
      .sort((a, b) => Date.parse(a.stuck?.since ?? "") - Date.parse(b.stuck?.since ?? ""))
      .map((row) => row.id);
  }

  #notify(listeners: Set<Listener> | undefined): void {
    if (listeners) for (const listener of [...listeners]) listener();
  }
}

function isStuck(batch: BatchView | undefined): boolean {
  return batch?.stuck != null && isLive(batch.state);
}

/** Order of all lists of batches: the latest start first. */
export function newestFirst(a: BatchView, b: BatchView): number {
  const later = Date.parse(b.started_at) - Date.parse(a.started_at);
  if (later !== 0 || a.id === b.id) return later;
  return a.id < b.id ? 1 : -1;
}

/**
 * At the end of what is under way: whatever came with it is drawn by the next frame, which need not
 * be waited for first. A hidden page draws none, so there after a quarter second.
 */
export const atOnce: Schedule = (flush) => {
  if (!document.hidden) return queueMicrotask(flush);
  const run = (): void => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", run);
    flush();
  };
  const timer = setTimeout(run, HIDDEN_MS);
  document.addEventListener("visibilitychange", run);
};
