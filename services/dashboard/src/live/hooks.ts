/** React's view of the session: each hook redraws its component for its own change only. */

import { useCallback, useSyncExternalStore } from "react";

import type { BatchView } from "../contract";
import type { Connection } from "./feed";
import { feed } from "./session";
import { PRESENT, useWorld } from "./world";

/** The newest view of one batch, or undefined while the page holds none. */
export function useBatch(id: string): BatchView | undefined {
  const { store } = useWorld();
  const subscribe = useCallback((listener: () => void) => store.onRow(id, listener), [store, id]);
  return useSyncExternalStore(subscribe, () => store.get(id));
}

/** The newer of the held view and one that came with an answer. */
export function useNewest(answered: BatchView): BatchView {
  const held = useBatch(answered.id);
  return held && held.sequence > answered.sequence ? held : answered;
}

export function useLiveIds(): readonly string[] {
  const { store } = useWorld();
  return useSyncExternalStore(store.onLists, store.live);
}

export function useStuckIds(): readonly string[] {
  const { store } = useWorld();
  return useSyncExternalStore(store.onLists, store.stuck);
}

export function useRecentIds(): readonly string[] {
  const { store } = useWorld();
  return useSyncExternalStore(store.onLists, store.recent);
}

/** How many batches live and are stuck now, whatever moment is looked at. */
export function useCountsNow(): { running: number; stuck: number } {
  const { store } = PRESENT;
  const running = useSyncExternalStore(store.onLists, store.live).length;
  const stuck = useSyncExternalStore(store.onLists, store.stuck).length;
  return { running, stuck };
}

export function useConnection(): Connection {
  return useSyncExternalStore(feed.onConnection, feed.connection);
}

/** The server's time at the moment shown, in milliseconds; in the present new each second. */
export function useNow(): number {
  const world = useWorld();
  return useSyncExternalStore(world.onSecond, world.second) * 1000;
}
