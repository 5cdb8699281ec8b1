/** The same command for several batches: first what would come of it, then exactly that. */

import { commandBatches, getBatch } from "./calls";
import type { BulkItem } from "./contract";
import { store } from "./live/session";
import { notify } from "./notices";
import { stopExactly } from "./stopping";
import { plural, wordsOf } from "./words";

export const TOGETHER = [
  { action: "stop", name: "Stop", done: "stopped" },
  { action: "pause", name: "Pause", done: "paused" },
  { action: "resume", name: "Resume", done: "resumed" },
  { action: "retry_failed", name: "Retry failed", done: "retried" },
  { action: "continue", name: "Make what is left", done: "continued" },
] as const;

export type Together = (typeof TOGETHER)[number];

/** What would come of a command: who takes it, and who refuses it with which words. */
export interface Rehearsal {
  command: Together;
  takes: readonly string[];
  refused: readonly BulkItem[];
}

/** Return what would come of it, or null after a toast that says why that is not known. */
export async function rehearse(
  command: Together,
  ids: readonly string[],
): Promise<Rehearsal | null> {
  try {
    const { results } = await commandBatches(command.action, ids, true);
    return {
      command,
      takes: results.filter(({ status }) => status < 400).map(({ id }) => id),
      refused: results.filter(({ status }) => status >= 400),
    };
  } catch (error) {
    notify({ kind: "error", title: `Nothing was ${command.done}`, text: wordsOf(error) });
    return null;
  }
}

/** Do it to exactly those that took it in the rehearsal; who refuses now is named. */
export async function perform({ command, takes }: Rehearsal): Promise<void> {
  if (command.action === "stop") return stopExactly(takes);
  try {
    const { results } = await commandBatches(command.action, takes);
    const refused = results.filter(({ status }) => status >= 400);
    const done = takes.length - refused.length;
    notify({
      kind: refused.length === 0 ? "success" : "error",
      title: `${plural(done, "batch", "batches")} ${command.done}`,
      text: refused.map(({ id, detail, status }) => `${id}: ${detail || status}`).join("; "),
    });
    await Promise.all(takes.map(async (id) => store.push((await getBatch(id)).batch)));
  } catch (error) {
    notify({
      kind: "error",
      title: `${plural(takes.length, "batch", "batches")} not ${command.done}`,
      text: wordsOf(error),
    });
  }
}
