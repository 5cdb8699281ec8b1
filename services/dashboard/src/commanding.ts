/** Commands of the batch page: what is being asked of a batch, or why the server refused it. */

import { useCallback, useSyncExternalStore } from "react";

import { commandBatch, setPriority, type CommandName } from "./calls";
import type { BatchView, CommandAnswer } from "./contract";
import { Problem } from "./http";
import { store } from "./live/session";
import { notify } from "./notices";
import { showBatch } from "./place";
import { shortId, wordsOf } from "./words";

export interface Asked {
  /** What is happening, or what failed. */
  words: string;
  isUnderWay: boolean;
  allowed: readonly string[] | null;
}

const held = new Map<string, Asked>();
const listeners = new Set<() => void>();

function set(id: string, asked: Asked | undefined): void {
  if (asked) held.set(id, asked);
  else held.delete(id);
  for (const listener of [...listeners]) listener();
}

function onAsked(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useAsked(id: string): Asked | undefined {
  return useSyncExternalStore(
    onAsked,
    useCallback(() => held.get(id), [id]),
  );
}

const MAKING: ReadonlySet<CommandName> = new Set(["retry-failed", "continue", "clone"]);

/**
 * Ask for a command; `words` say at once what happens. A batch that it makes is opened.
 *
 * `shown` is the same as long as a page of the batch is on show: of one showing comes one clone and
 * one child, however often and fast a button is pressed. What changes the batch is another command
 * once the batch has moved on.
 */
export function ask(
  batch: BatchView,
  command: CommandName,
  words: string,
  body: Record<string, unknown>,
  shown: string,
): Promise<void> {
  const reason = `${command} on the page`;
  const key = `${shown}-${command}` + (MAKING.has(command) ? "" : `-${batch.version}`);
  return carryOut(batch.id, words, () =>
    commandBatch(batch.id, command, { reason, ...body }, key),
  );
}

export function askPriority(batch: BatchView, priority: string): Promise<void> {
  return carryOut(batch.id, "Changing the priority…", () => setPriority(batch.id, priority));
}

async function carryOut(
  id: string,
  words: string,
  send: () => Promise<CommandAnswer>,
): Promise<void> {
  set(id, { words, isUnderWay: true, allowed: null });
  try {
    const { batch } = await send();
    store.push(batch);
    set(id, undefined);
    if (batch.id === id) return;
    notify({ kind: "success", title: `${shortId(batch.id)} started`, text: `From ${id}.` });
    showBatch(batch.id);
  } catch (error) {
    const allowed = error instanceof Problem ? error.allowed : null;
    set(id, { words: wordsOf(error), isUnderWay: false, allowed });
  }
}
