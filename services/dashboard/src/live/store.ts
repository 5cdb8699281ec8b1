/**
 * The newest known view of every batch on the page, outside React.
 *
 * What comes together is laid out together; each row listens to itself only.
 * A view is taken when its sequence is newer than the one held, so repeats do no harm.
 */

import { isLive, type BatchView } from "../contract";
import type { Limited } from "../limited";
import { Pace, sum, type Made } from "./pace";
import type { Schedule } from "./schedule";

/** Ended batches kept for rows that are no longer in any table; older ones are let go. */
const ENDED_KEPT = 500;
const AT_EASE_MS = 1_000;

type Listener = () => void;
/** `previous` is undefined when the batch was not known before. */
export type ChangeListener = (previous: BatchView | undefined, next: BatchView) => void;

export class BatchStore {
  /** How fast the live batches go, as this page sees it. */
  readonly pace = new Pace();
  readonly #schedule: Schedule;
  readonly #scheduleMoves: Schedule | undefined;
  readonly #rows = new Map<string, BatchView>();
  readonly #pending = new Map<string, BatchView>();
  /** Those of the pending ones by which lists move, where they are laid out by themselves. */
  readonly #moves = new Map<string, BatchView>();
  readonly #lastSample = new Map<string, string>();
  readonly #rowListeners = new Map<string, Set<Listener>>();
  readonly #listListeners = new Set<Listener>();
  readonly #changeListeners = new Set<ChangeListener>();
  #limited: Limited = {};
  #isScheduled = false;
  #areMovesScheduled = false;
  #movedAt = 0;
  #live: readonly string[] = [];
  #paused: readonly string[] = [];
  #stuck: readonly string[] = [];
  #recent: readonly string[] = [];

  /** With `scheduleMoves` what moves the lists is laid out then: that takes longer than progress. */
  constructor(schedule: Schedule, scheduleMoves?: Schedule) {
    this.#schedule = schedule;
    this.#scheduleMoves = scheduleMoves;
  }

  get(id: string): BatchView | undefined {
    return this.#rows.get(id);
  }

  /** When the latest sample of a batch was stored, as far as this page can tell. */
  lastSampleAt(id: string): string | undefined {
    return this.#lastSample.get(id);
  }

  /** What of the limits of routes lets which batches wait now. */
  limited = (): Limited => this.#limited;

  /** Take what lets batches wait from now on; it replaces what did before. */
  limit(limited: Limited): void {
    const before = this.#limited;
    this.#limited = limited;
    for (const id of new Set([...Object.keys(before), ...Object.keys(limited)])) {
      const [was, is] = [before[id], limited[id]];
      if (was?.message !== is?.message || was?.next_at !== is?.next_at)
        this.#notify(this.#rowListeners.get(id));
    }
  }

  /** What all live batches together make and cost in a second at `now` (ms); null while unknown. */
  rates(now: number): Made | null {
    const live = this.since(Infinity);
    const known = live.map((row) => this.pace.rates(row, now)).filter((rates) => rates !== null);
    return live.length > 0 && known.length === 0 ? null : sum(known);
  }

  /** The batches that live, and those that have ended after `sequence`. */
  since(sequence: number): BatchView[] {
    return [...this.#rows.values()].filter((row) => isLive(row.state) || row.version > sequence);
  }

  /** Ids of the live batches, newest first; the same array until the list changes. */
  live = (): readonly string[] => this.#live;

  /** Ids of those live batches that are paused, newest first. */
  paused = (): readonly string[] => this.#paused;

  /** Ids of the live batches that a watchdog holds for stuck, longest first. */
  stuck = (): readonly string[] => this.#stuck;

  /** Ids of all batches held, newest first. */
  recent = (): readonly string[] => this.#recent;

  /** Take a view, unless a newer one is held. Shown soon. */
  push(batch: BatchView): void {
    const { id } = batch;
    const waiting = this.#moves.get(id) ?? this.#pending.get(id);
    const row = this.#rows.get(id);
    const held = waiting ?? row;
    if (held && held.sequence >= batch.sequence) return;
    if (this.#scheduleMoves && (this.#moves.has(id) || movesLists(row, batch))) {
      this.#pending.delete(id);
      this.#moves.set(id, batch);
      if (this.#areMovesScheduled) return;
      this.#areMovesScheduled = true;
      return this.#scheduleMoves(this.flush);
    }
    this.#pending.set(id, batch);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#schedule(this.#flushPending);
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
    this.#moves.delete(id);
    this.#lastSample.delete(id);
    this.pace.forget(id);
    if (!this.#rows.delete(id)) return;
    this.#sortLists();
    this.#notify(this.#rowListeners.get(id));
    this.#notify(this.#listListeners);
  }

  /** Lay out what came since the last time. */
  flush = (): void => {
    this.#areMovesScheduled = false;
    for (const [id, batch] of this.#moves) this.#pending.set(id, batch);
    this.#moves.clear();
    this.#flushPending();
  };

  #flushPending = (): void => {
    this.#isScheduled = false;
    if (this.#pending.size === 0) return;
    const changes = [...this.#pending.values()].map(
      (next) => [this.#rows.get(next.id), next] as const,
    );
    this.#pending.clear();
    let areListsMoved = false;
    for (const [previous, next] of changes) {
      this.#rows.set(next.id, next);
      this.#noteSample(previous, next);
      this.pace.note(next);
      if (previous?.state !== next.state) this.#movedAt = Math.max(this.#movedAt, next.sequence);
      areListsMoved ||= movesLists(previous, next);
    }
    if (areListsMoved) this.#sortLists();
    for (const [, next] of changes) this.#notify(this.#rowListeners.get(next.id));
    if (areListsMoved) this.#notify(this.#listListeners);
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

  /** Call `listener` when a batch comes, ends, changes its state, or gets stuck, anew or no more. */
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
    const rows = inOrder(this.#rows.values());
    const ended = rows.filter((row) => !isLive(row.state));
    for (const row of ended.slice(ENDED_KEPT)) {
      this.#rows.delete(row.id);
      this.#lastSample.delete(row.id);
    }
    const live = rows.filter((row) => isLive(row.state));
    this.#recent = rows.filter((row) => this.#rows.has(row.id)).map((row) => row.id);
    this.#live = live.map((row) => row.id);
    this.#paused = live.filter((row) => row.state === "paused").map((row) => row.id);
    this.#stuck = live
      .filter((row) => stuckBy(row) !== undefined)
      .sort((a, b) => Date.parse(a.stuck?.since ?? "") - Date.parse(b.stuck?.since ?? ""))
      .map((row) => row.id);
  }

  #notify(listeners: Set<Listener> | undefined): void {
    if (listeners) for (const listener of [...listeners]) listener();
  }
}

/** The rule by which a live batch is stuck, if it is. */
function stuckBy(batch: BatchView | undefined): string | undefined {
  return batch && isLive(batch.state) ? batch.stuck?.rule : undefined;
}

function movesLists(previous: BatchView | undefined, next: BatchView): boolean {
  return previous?.state !== next.state || stuckBy(previous) !== stuckBy(next);
}

// By `newestFirst`, with each time read once.
function inOrder(batches: Iterable<BatchView>): BatchView[] {
  return Array.from(batches, (row) => ({ row, id: row.id, at: Date.parse(row.started_at) }))
    .sort(latestFirst)
    .map(({ row }) => row);
}

function latestFirst(a: Begun, b: Begun): number {
  const later = b.at - a.at;
  if (later !== 0 || a.id === b.id) return later;
  return a.id < b.id ? 1 : -1;
}

interface Begun {
  id: string;
  at: number;
}

/** Order of all lists of batches: the latest start first. */
export function newestFirst(a: BatchView, b: BatchView): number {
  const begun = ({ id, started_at }: BatchView): Begun => ({ id, at: Date.parse(started_at) });
  return latestFirst(begun(a), begun(b));
}
