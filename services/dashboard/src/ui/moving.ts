/**
 * What moves in a row, written into its elements directly: many rows move many times a second, and
 * React would go through all of a row for one number in it.
 */

import { useLayoutEffect, useState, type RefCallback } from "react";

import { isLive, type BatchView } from "../contract";
import { newer } from "../live/hooks";
import type { BatchStore } from "../live/store";
import { useWorld } from "../live/world";
import { batchDuration, costWords, grouped } from "../words";

/** A batch as it is now. */
export interface Moment {
  batch: BatchView;
  /** In milliseconds since 1970. */
  now: number;
  /** A second has begun or the row was drawn anew; otherwise the batch alone has moved. */
  isTick: boolean;
  /** It is such a tick, or a change of a batch that moves no faster than one reads. */
  isReadable: boolean;
  store: BatchStore;
}

/** More changes a second than that nobody reads one by one. */
const READABLE_GAP_MS = 250;

/** Brings an element up to a moment; touches it only where it differs. */
export type Write = (element: HTMLElement, moment: Moment) => void;

/** The ref of an element that this function writes; the same function gives the same ref. */
export type Moves = (write: Write) => RefCallback<HTMLElement>;

/**
 * Writes what moves of a batch at each change of it, or once a second where it is not `isSeen`, and
 * at each second while it lives: of what was `answered` or the newer view that the moment shown
 * holds. React must give the elements no children of its own.
 */
export function useMoving(
  steady: BatchView,
  answered: BatchView | undefined,
  isSeen = true,
): Moves {
  const { store, second, onSecond } = useWorld();
  const [row] = useState(() => new Row());
  const { id } = steady;
  const ticks = isLive(steady.state);
  useLayoutEffect(() => {
    const write = (isTick: boolean): void => {
      // Not what is newer than `steady`: that may be of a later moment than the one shown now.
      const batch = newer(answered, store.get(id)) ?? steady;
      row.write({ batch, now: second() * 1000, isTick, store }, ticks);
    };
    const move = (): void => write(false);
    const tick = (): void => write(true);
    tick();
    const stop = isSeen ? store.onRow(id, move) : store.onRowAtEase(id, move);
    const stopTicking = ticks ? onSecond(tick) : undefined;
    return () => {
      stop();
      stopTicking?.();
    };
  }, [row, steady, answered, id, ticks, isSeen, store, second, onSecond]);
  return row.moves;
}

class Row {
  readonly #refs = new Map<Write, RefCallback<HTMLElement>>();
  readonly #elements = new Map<Write, HTMLElement>();
  #last: Moment | undefined;
  #changedAt = -Infinity;

  /** Write it all, or of a batch that moves too fast what must not wait for the next tick. */
  write(moved: Omit<Moment, "isReadable">, ticks: boolean): void {
    const at = performance.now();
    const isReadable = moved.isTick || !ticks || at - this.#changedAt >= READABLE_GAP_MS;
    if (!moved.isTick) this.#changedAt = at;
    const moment = { ...moved, isReadable };
    this.#last = moment;
    for (const [write, element] of this.#elements) write(element, moment);
  }

  moves: Moves = (write) => {
    const made = this.#refs.get(write);
    if (made) return made;
    const ref: RefCallback<HTMLElement> = (element) => {
      if (element) {
        this.#elements.set(write, element);
        // One that comes later, as a column does, must not wait for the next change.
        if (this.#last) write(element, { ...this.#last, isTick: true, isReadable: true });
      } else this.#elements.delete(write);
    };
    this.#refs.set(write, ref);
    return ref;
  };
}

/** Writes words; without any the element is hidden. */
export function wording(words: (moment: Moment) => string): Write {
  return (element, moment) => {
    const next = words(moment);
    const text = element.firstChild;
    if (text?.nodeValue === next) return;
    if (text) text.nodeValue = next;
    else element.append(next);
    element.hidden = next === "";
  };
}

/** As `wording`, but of a batch that moves many times a second once in each second. */
export function following(words: (moment: Moment) => string): Write {
  const write = wording(words);
  return (element, moment) => {
    if (moment.isReadable) write(element, moment);
  };
}

/** As `wording`, for words that need not move more often than the seconds. */
export function ticking(words: (moment: Moment) => string): Write {
  const write = wording(words);
  return (element, moment) => {
    if (moment.isTick) write(element, moment);
  };
}

export const writeGenerated = wording(({ batch }) => grouped(batch.counts.generated));
export const writeCost = following(({ batch }) => costWords(batch.counts));
export const writeDuration = ticking(({ batch, now }) => batchDuration(batch, now));

/** Writes how many samples failed, in the colour of what is bad once there are any. */
export function failing(words: (failed: number) => string): Write {
  const write = wording(({ batch }) => words(batch.counts.failed));
  return (element, moment) => {
    if (!moment.isReadable) return;
    element.classList.toggle("is-bad", moment.batch.counts.failed > 0);
    write(element, moment);
  };
}
