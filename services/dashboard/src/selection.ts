/** Which batches of the history are chosen, for what is done to several at once. */

import { useCallback, useSyncExternalStore } from "react";

const listeners = new Set<() => void>();
let chosen: ReadonlySet<string> = new Set();

function change(next: ReadonlySet<string>): void {
  chosen = next;
  for (const listener of [...listeners]) listener();
}

function onChosen(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

const current = (): ReadonlySet<string> => chosen;

/** All that are chosen; the same set until it changes. */
export function useChosen(): ReadonlySet<string> {
  return useSyncExternalStore(onChosen, current);
}

export function useIsChosen(id: string): boolean {
  return useSyncExternalStore(
    onChosen,
    useCallback(() => chosen.has(id), [id]),
  );
}

/** Choose a batch, or let it go again. */
export function toggle(id: string): void {
  const next = new Set(chosen);
  if (!next.delete(id)) next.add(id);
  change(next);
}

/** Choose none. */
export function letAllGo(): void {
  if (chosen.size > 0) change(new Set());
}
