/** React's view of the session: each hook redraws its component for its own change only. */

import { useCallback, useSyncExternalStore } from "react";

import type { BatchView } from "../contract";
import type { Connection } from "./feed";
import { clock, feed, store } from "./session";

/** The newest view of one batch, or undefined while the page holds none. */
export function useBatch(id: string): BatchView | undefined {
  const subscribe = useCallback((listener: () => void) => store.onRow(id, listener), [id]);
  return useSyncExternalStore(subscribe, () => store.get(id));
}

/** The newer of the held view and one that came with an answer. */
export function useNewest(answered: BatchView): BatchView {
  const held = useBatch(answered.id);
  return held && held.sequence > answered.sequence ? held : answered;
}

export function useLiveIds(): readonly string[] {
  return useSyncExternalStore(store.onLists, store.live);
}

export function useStuckIds(): readonly string[] {
  return useSyncExternalStore(store.onLists, store.stuck);
}

export function useRecentIds(): readonly string[] {
  return useSyncExternalStore(store.onLists, store.recent);
}

export function useConnection(): Connection {
  return useSyncExternalStore(feed.onConnection, feed.connection);
}

/** The server's time now, in milliseconds, a new value each second. */
export function useNow(): number {
  return useSyncExternalStore(clock.onSecond, clock.second) * 1000;
}
