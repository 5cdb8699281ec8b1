/** React's view of the session: each hook redraws its component for its own change only. */

import { useCallback, useRef, useSyncExternalStore } from "react";

import type { BatchView } from "../contract";
import type { LimitedBy } from "../limited";
import type { Connection, Vitals } from "./feed";
import { clock } from "./clock";
import { lag, line } from "./session";
import { isSteady } from "./steady";
import type { BatchStore } from "./store";
import { PRESENT, useWorld } from "./world";

/** Given by the build hook; a page that was built otherwise does not know its build. */
const OWN_BUILD = import.meta.env.VITE_BUILD as string | undefined;

/** The newest view of one batch, or undefined while the page holds none. */
export function useBatch(id: string): BatchView | undefined {
  const { store } = useWorld();
  const subscribe = useCallback((listener: () => void) => store.onRow(id, listener), [store, id]);
  return useSyncExternalStore(subscribe, () => store.get(id));
}

/**
 * As `useBatch`, or an `answered` view until a newer one is held; but the same one as long as nothing
 * has changed except what moves with each sample: for rows, which write that by themselves.
 */
export function useSteady<A extends BatchView | undefined>(id: string, answered: A): A | BatchView {
  const { store } = useWorld();
  const steady = useRef<A | BatchView>(answered);
  const subscribe = useCallback((listener: () => void) => store.onRow(id, listener), [store, id]);
  return useSyncExternalStore(subscribe, () => {
    const newest = newer(answered, store.get(id));
    if (!steady.current || !newest || !isSteady(steady.current, newest)) steady.current = newest;
    return steady.current;
  });
}

/** The limit of its route that lets a batch's calls wait now, if one does. */
export function useLimit({ id, state }: BatchView): LimitedBy | undefined {
  const { store } = useWorld();
  const subscribe = useCallback((listener: () => void) => store.onRow(id, listener), [store, id]);
  const limited = useSyncExternalStore(subscribe, () => store.limited()[id]);
  return state === "running" ? limited : undefined;
}

/** The newer one of an answered and a held view of a batch. */
export function newer<A extends BatchView | undefined>(
  answered: A,
  held: BatchView | undefined,
): A | BatchView {
  return held && (!answered || held.sequence > answered.sequence) ? held : answered;
}

export function useLiveIds(): readonly string[] {
  const { store } = useWorld();
  return useSyncExternalStore(store.onLists, store.live);
}

/** How many live batches go on, and how many wait until somebody resumes them. */
export function useLiveCounts(): { running: number; paused: number } {
  return useCountsOf(useWorld().store);
}

function useCountsOf(store: BatchStore): { running: number; paused: number } {
  const live = useSyncExternalStore(store.onLists, store.live).length;
  const paused = useSyncExternalStore(store.onLists, store.paused).length;
  return { running: live - paused, paused };
}

export function useStuckIds(): readonly string[] {
  const { store } = useWorld();
  return useSyncExternalStore(store.onLists, store.stuck);
}

export function useRecentIds(): readonly string[] {
  const { store } = useWorld();
  return useSyncExternalStore(store.onLists, store.recent);
}

/** How many batches run and are stuck now, whatever moment is looked at. */
export function useCountsNow(): { running: number; stuck: number } {
  const { store } = PRESENT;
  const { running } = useCountsOf(store);
  const stuck = useSyncExternalStore(store.onLists, store.stuck).length;
  return { running, stuck };
}

/** The page is of another build than the server that answers now gives. */
export function useIsOutdated(): boolean {
  const served = useSyncExternalStore(line.onConnection, () => line.vitals().build);
  return OWN_BUILD !== undefined && served !== null && served !== OWN_BUILD;
}

/** How long it now takes from an event's being stored to its change on the page; new each second. */
export function useLag(): number | null {
  useSyncExternalStore(clock.onSecond, clock.second);
  return useConnection().state === "live" ? lag.typical() : null;
}

/** What the connection tells of itself; new each second. */
export function useVitals(): Vitals {
  useSyncExternalStore(clock.onSecond, clock.second);
  return line.vitals();
}

export function useConnection(): Connection {
  return useSyncExternalStore(line.onConnection, line.connection);
}

/** Whether nobody has told yet what runs. */
export function useIsUnheard(): boolean {
  return !useSyncExternalStore(line.onConnection, line.hasHeard);
}

/** The server's time at the moment shown, in milliseconds; in the present new each second. */
export function useNow(): number {
  const world = useWorld();
  return useSyncExternalStore(world.onSecond, world.second) * 1000;
}
