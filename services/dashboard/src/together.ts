/** The same command for several batches: first what would come of it, then exactly that. */

import { commandBatches, type Those } from "./calls";
import { LIVE_STATES, type BulkItem, type State } from "./contract";
import { notify } from "./notices";
import { stopExactly } from "./stopping";
import { plural, wordsOf } from "./words";

export interface Together {
  action: string;
  name: string;
  done: string;
  /** The states in which it can change something. */
  states: readonly State[];
  priority?: string;
}

const ENDED: readonly State[] = ["completed", "stopped", "failed"];

export const TOGETHER: readonly Together[] = [
  { action: "stop", name: "Stop", done: "stopped", states: LIVE_STATES },
  { action: "pause", name: "Pause", done: "paused", states: ["queued", "running"] },
  { action: "resume", name: "Resume", done: "resumed", states: ["paused"] },
  { action: "retry_failed", name: "Retry failed", done: "retried", states: ENDED },
  { action: "continue", name: "Make what is left", done: "continued", states: ENDED },
];

export const STOP = TOGETHER[0] as Together;

export const PRIORITIES = ["high", "normal", "low"] as const;

export function toPriority(priority: string): Together {
  return {
    action: "priority",
    name: `Priority ${priority}`,
    done: `given ${priority} priority`,
    states: ["queued", "running", "paused"],
    priority,
  };
}

/** What would come of a command: who takes it, and who refuses it with which words. */
export interface Rehearsal {
  command: Together;
  takes: readonly string[];
  refused: readonly BulkItem[];
}

/** Return what would come of it, or null after a toast that says why that is not known. */
export async function rehearse(
  command: Together,
  those: Those,
): Promise<Rehearsal | null> {
  try {
    const { results } = await commandBatches(command.action, inReach(command, those), {
      priority: command.priority,
      isRehearsal: true,
    });
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

/** Of all that match only those in whose state the command can change something. */
function inReach(command: Together, those: Those): Those {
  if ("ids" in those || those.filter.states?.length) return those;
  return { filter: { ...those.filter, states: command.states } };
}

/** Do it to exactly those that took it in the rehearsal; who refuses now is named. */
export async function perform({ command, takes }: Rehearsal): Promise<void> {
  if (command.action === "stop") return stopExactly(takes);
  try {
    const { priority } = command;
    const { results } = await commandBatches(command.action, { ids: takes }, { priority });
    const refused = results.filter(({ status }) => status >= 400);
    const done = takes.length - refused.length;
    notify({
      kind: refused.length === 0 ? "success" : "error",
      title: `${plural(done, "batch", "batches")} ${command.done}`,
      text: refused.map(({ id, detail, status }) => `${id}: ${detail || status}`).join("; "),
    });
  } catch (error) {
    notify({
      kind: "error",
      title: `${plural(takes.length, "batch", "batches")} not ${command.done}`,
      text: wordsOf(error),
    });
  }
}
