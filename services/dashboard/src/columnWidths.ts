/**
 * How wide the columns of the history are where the reader has moved an edge; else the browser lays
 * them out. Kept in this browser, not in the address: another one's window has another width.
 */

import { useSyncExternalStore } from "react";

import { onPreference, recall, remember } from "./preferences";

/** By column, in parts of the whole: pixels of the table in which they were drawn. */
export type Widths = Readonly<Record<string, number>>;

const NAME = "column-widths";
const LEAST = 48;
/** Of a column that was hidden when the others were drawn. */
const OTHERWISE = 96;
const AUTOMATIC: Widths = {};

const listeners = new Set<() => void>();
let held: Widths = recall(NAME, AUTOMATIC, isWidths);

onPreference(NAME, () => {
  held = recall(NAME, AUTOMATIC, isWidths);
  tell();
});

/** Return the width of each of these columns in percent, or null while all is automatic. */
export function useShares(names: readonly string[]): readonly number[] | null {
  const widths = useSyncExternalStore(onWidths, () => held);
  if (widths === AUTOMATIC) return null;
  const own = names.map((name) => widths[name] ?? OTHERWISE);
  const sum = own.reduce((one, other) => one + other, 0);
  return own.map((width) => (100 * width) / sum);
}

/** Move the edge between two columns by so many pixels; `drawn` are all of them as they stand. */
export function moveEdge(drawn: Widths, left: string, right: string, by: number): void {
  const [one, other] = [drawn[left] ?? OTHERWISE, drawn[right] ?? OTHERWISE];
  const most = Math.max(0, other - LEAST);
  const least = Math.min(0, LEAST - one);
  const moved = Math.min(most, Math.max(least, by));
  held = { ...held, ...drawn, [left]: one + moved, [right]: other - moved };
  tell();
}

export function keepWidths(): void {
  remember(NAME, held);
}

/** Let the browser lay the columns out again. */
export function dropWidths(): void {
  held = AUTOMATIC;
  keepWidths();
  tell();
}

function onWidths(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell(): void {
  for (const listener of [...listeners]) listener();
}

// Empty is automatic, and what another version of the page left may be anything.
function isWidths(value: unknown): value is Widths {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const widths = Object.values(value);
  return widths.length > 0 && widths.every((one) => Number.isFinite(one) && (one as number) > 0);
}
