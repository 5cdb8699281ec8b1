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
  /** What is said of a batch for which there is nothing to do. */
  is: string;
  /** The states in which it can change something. */
  states: readonly State[];
  priority?: string;
}

const ENDED: readonly State[] = ["completed", "stopped", "failed"];

export const TOGETHER: readonly Together[] = [
  { action: "stop", name: "Stop", done: "stopped", is: "stopping already", states: LIVE_STATES },
  { action: "pause", name: "Pause", done: "paused", is: "paused already", states: ["queued", "running"] },
  { action: "resume", name: "Resume", done: "resumed", is: "running already", states: ["paused"] },
  { action: "retry_failed", name: "Retry failed", done: "retried", is: "retried already", states: ENDED },
  { action: "continue", name: "Make what is left", done: "continued", is: "continued already", states: ENDED },
];

export const STOP = TOGETHER[0] as Together;

export const PRIORITIES = ["high", "normal", "low"] as const;

export function toPriority(priority: string): Together {
  return {
    action: "priority",
    name: `Priority ${priority}`,
    done: `given ${priority} priority`,
    is: `of ${priority} priority already`,
    states: ["queued", "running", "paused"],
    priority,
  };
}

/** What would come of a command: whom it changes, of how many it is true already, who refuses it. */
export interface Rehearsal {
  command: Together;
  takes: readonly string[];
  /** How many it leaves as they are. */
  same: number;
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
      takes: results.filter(({ changed }) => changed).map(({ id }) => id),
      same: results.filter(isSame).length,
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

const isSame = ({ status, changed }: BulkItem): boolean => status < 400 && !changed;

/** Do it to exactly those that took it in the rehearsal; who refuses now is named. */
export async function perform({ command, takes }: Rehearsal): Promise<void> {
  if (command.action === "stop") return stopExactly(takes);
  try {
    const { priority } = command;
    const { results } = await commandBatches(command.action, { ids: takes }, { priority });
    const refused = results.filter(({ status }) => status >= 400);
    const done = results.filter(({ changed }) => changed).length;
    const same = results.filter(isSame).length;
    const words = refused.map(({ id, detail, status }) => detail || `${id}: ${status}`);
    if (same > 0) words.push(`${plural(same, "batch was", "batches were")} so already`);
    notify({
      kind: refused.length === 0 ? "success" : "error",
      title: `${plural(done, "batch", "batches")} ${command.done}`,
      text: words.join("; "),
    });
  } catch (error) {
    notify({
      kind: "error",
      title: `${plural(takes.length, "batch", "batches")} not ${command.done}`,
      text: wordsOf(error),
    });
  }
}
