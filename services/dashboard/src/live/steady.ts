/** What of a batch stays while samples come in, told apart from what moves with each of them. */

import type { BatchView } from "../contract";

/** These change with every sample or call; a row writes what it shows of them by itself. */
const MOVING: ReadonlySet<string> = new Set<keyof BatchView>([
  "counts",
  "last_progress_at",
  "errors",
  "version",
  "sequence",
]);

/** Whether two views of one batch differ in nothing but what moves. */
export function isSteady(a: BatchView, b: BatchView): boolean {
  if (a === b) return true;
  for (const name in b) {
    if (MOVING.has(name)) continue;
    if (!isAlike(a[name as keyof BatchView], b[name as keyof BatchView])) return false;
  }
  return true;
}

function isAlike(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (a === null || b === null || typeof a !== "object") return false;
  return JSON.stringify(a) === JSON.stringify(b);
}
