/** Stops under way and stops that failed, for every place that shows the same batch. */

import { useCallback, useSyncExternalStore } from "react";

import { commandBatch, commandBatches } from "./calls";
import { randomKey } from "./http";
import { store } from "./live/session";
import { notify } from "./notices";
import { plural, shortId, wordsOf } from "./words";

/** `asked`: no answer yet; otherwise why the stop failed. */
export type StopAttempt = { asked: true } | { asked: false; error: string };

const attempts = new Map<string, StopAttempt>();
const listeners = new Set<() => void>();

function set(ids: readonly string[], attempt: StopAttempt | undefined): void {
  for (const id of ids) {
    if (attempt) attempts.set(id, attempt);
    else attempts.delete(id);
  }
  for (const listener of [...listeners]) listener();
}

function onAttempt(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useStopAttempt(id: string): StopAttempt | undefined {
  return useSyncExternalStore(
    onAttempt,
    useCallback(() => attempts.get(id), [id]),
  );
}

/** Stop one batch; a refusal is shown beside it and as a toast. */
export async function stop(id: string): Promise<void> {
  set([id], { asked: true });
  try {
    const body = { mode: "cancel", reason: "stopped on the page" };
    store.push((await commandBatch(id, "stop", body, randomKey())).batch);
    set([id], undefined);
  } catch (error) {
    set([id], { asked: false, error: wordsOf(error) });
    notify({ kind: "error", title: `${shortId(id)} was not stopped`, text: wordsOf(error) });
  }
}

/** Stop exactly these batches; those that refuse are named. */
export async function stopExactly(ids: readonly string[]): Promise<void> {
  set(ids, { asked: true });
  try {
    const { results } = await commandBatches("stop", { ids });
    const refused = results.filter((result) => result.status >= 400);
    set(ids, undefined);
    for (const { id, detail, status } of refused) {
      set([id], { asked: false, error: detail || `The server answered ${status}.` });
    }
    if (refused.length === 0) return;
    notify({
      kind: "error",
      title: `${plural(refused.length, "batch", "batches")} of ${ids.length} not stopped`,
      text: refused.map(({ id, detail, status }) => `${id}: ${detail || status}`).join("; "),
    });
  } catch (error) {
    set(ids, { asked: false, error: wordsOf(error) });
    notify({
      kind: "error",
      title: `${plural(ids.length, "batch", "batches")} not stopped`,
      text: wordsOf(error),
    });
  }
}
