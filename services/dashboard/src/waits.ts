/**
 * Stuck batches that somebody waits for a while longer, each until its time; kept in this browser,
 * so all its tabs count the same ones.
 */

import { useSyncExternalStore } from "react";

import { clock } from "./live/clock";
import { keptList } from "./named";

const LONGER_MS = 600_000;
/** More than anybody waits for: one that is forgotten would be stopped with the others. */
const MOST = 1000;

const waits = keptList("waits", isTime, MOST);

/** Wait for a batch ten minutes longer, by the server's clock. */
export function waitMore(id: string): void {
  const now = clock.now();
  for (const { name, value } of waits.all()) if (value <= now) waits.drop(name);
  waits.keep(id, now + LONGER_MS);
}

export function waitNoMore(id: string): void {
  waits.drop(id);
}

/** The batches that are waited for at `now`, each with the time until when (ms). */
export function waitedFor(now: number): ReadonlyMap<string, number> {
  const open = waits.all().filter(({ value }) => value > now);
  return new Map(open.map(({ name, value }) => [name, value]));
}

/** As `waitedFor`, now. */
export function useWaits(): ReadonlyMap<string, number> {
  waits.use();
  useSyncExternalStore(clock.onSecond, () => waitedNow().size);
  return waitedNow();
}

const waitedNow = (): ReadonlyMap<string, number> => waitedFor(clock.second() * 1000);

function isTime(value: unknown): value is number {
  return Number.isFinite(value);
}
