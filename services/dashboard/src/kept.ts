/**
 * The last notices, kept in this browser: all its tabs show the same ones. A browser that refuses
 * storage keeps them as long as the tab lives.
 */

import { clock } from "./live/clock";
import { randomKey } from "./http";
import type { Notice } from "./notices";
import { onPreference, recall, remember } from "./preferences";

export interface Kept extends Omit<Notice, "id" | "fact"> {
  fact: string;
  /** When it was told, by the server's clock (ms). */
  at: number;
  isUnread: boolean;
}

const MOST = 20;
const NAME = "notices";

const listeners = new Set<() => void>();
let kept: readonly Kept[] = recall(NAME, [], isList);

onPreference(NAME, () => {
  kept = recall(NAME, [], isList);
  tell();
});

/** The kept notices, newest first. */
export const keptNotices = (): readonly Kept[] => kept;

export function onKept(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Keep a notice, unless another tab has kept the same. */
export function keep({ fact = randomKey(), kind, title, text, batch }: Omit<Notice, "id">): void {
  const before = recall(NAME, kept, isList);
  if (before.some((one) => one.fact === fact)) return change(before);
  const notice: Kept = { fact, kind, title, text, at: clock.now(), isUnread: true };
  if (batch !== undefined) notice.batch = batch;
  change([notice, ...before].slice(0, MOST));
}

export function markRead(): void {
  if (kept.some((one) => one.isUnread)) change(kept.map((one) => ({ ...one, isUnread: false })));
}

export function clearKept(): void {
  change([]);
}

function change(next: readonly Kept[]): void {
  kept = next;
  remember(NAME, kept);
  tell();
}

function tell(): void {
  for (const listener of [...listeners]) listener();
}

// What another version of the page left there may be anything.
function isList(value: unknown): value is readonly Kept[] {
  return Array.isArray(value) && value.length <= MOST && value.every(isKept);
}

function isKept(value: unknown): boolean {
  const { fact, kind, title, text, at, batch } = (value ?? {}) as Record<string, unknown>;
  return (
    [fact, title, text].every((one) => typeof one === "string") &&
    ["success", "info", "warning", "error"].includes(String(kind)) &&
    Number.isFinite(at) &&
    (batch === undefined || typeof batch === "string")
  );
}
