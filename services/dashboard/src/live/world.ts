/**
 * The moment that a part of the page shows: the present, which moves, or one of the past, which
 * stands still. The same views draw both.
 */

import { createContext, useContext } from "react";

import type { BatchView } from "../contract";
import { clock, store } from "./session";
import { atOnce } from "./schedule";
import { BatchStore } from "./store";

export interface World {
  store: BatchStore;
  /** The sequence of the past, or null for the present. */
  at: number | null;
  /** Whether what it holds was told; a moment of the past is empty until then. */
  isTold: boolean;
  /** The second that is now, in seconds since 1970. */
  second(): number;
  onSecond(listener: () => void): () => void;
}

export const PRESENT: World = {
  store,
  at: null,
  isTold: true,
  second: clock.second,
  onSecond: clock.onSecond,
};

export const WorldContext = createContext<World>(PRESENT);

export function useWorld(): World {
  return useContext(WorldContext);
}

const neverTicks = (): (() => void) => () => undefined;

/** The world of these batches as of sequence `at`; `time` is that of its last event, in ms. */
export function pastWorld(
  batches: readonly BatchView[],
  at: number,
  time: number,
  isTold = true,
): World {
  const held = new BatchStore(atOnce);
  for (const batch of batches) held.push(batch);
  held.flush();
  const second = Math.ceil(time / 1000);
  return { store: held, at, isTold, second: () => second, onSecond: neverTicks };
}
