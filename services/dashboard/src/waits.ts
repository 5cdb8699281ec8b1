/**
 * Stuck batches that somebody waits for a while longer, each until its time and for as long as it is
 * stuck by the rule that was seen: what another rule finds is news. Kept in this browser, so all its
 * tabs count the same ones.
 */

import { useSyncExternalStore } from "react";

import { clock } from "./live/clock";
import { keptList } from "./named";

const LONGER_MS = 600_000;
/** More than anybody waits for: one that is forgotten would be stopped with the others. */
const MOST = 1000;

export interface Wait {
  /** The rule by which the batch was stuck. */
  rule: string;
  /** In milliseconds since 1970. */
  until: number;
}

const waits = keptList("waits", isWait, MOST);

/** Wait for a batch that is stuck by a rule ten minutes longer, by the server's clock. */
export function waitMore(id: string, rule: string): void {
  const now = clock.now();
  for (const { name, value } of waits.all()) if (value.until <= now) waits.drop(name);
  waits.keep(id, { rule, until: now + LONGER_MS });
}

export function waitNoMore(id: string): void {
  waits.drop(id);
}

/** The batches that are waited for at `now`, each with its wait. */
export function waitedFor(now: number): ReadonlyMap<string, Wait> {
  const open = waits.all().filter(({ value }) => value.until > now);
  return new Map(open.map(({ name, value }) => [name, value]));
}

/** As `waitedFor`, now. */
export function useWaits(): ReadonlyMap<string, Wait> {
  waits.use();
  useSyncExternalStore(clock.onSecond, () => waitedNow().size);
  return waitedNow();
}

const waitedNow = (): ReadonlyMap<string, Wait> => waitedFor(clock.second() * 1000);

function isWait(value: unknown): value is Wait {
  if (typeof value !== "object" || value === null) return false;
  const { rule, until } = value as Record<string, unknown>;
  return typeof rule === "string" && Number.isFinite(until);
}
