/** Batches that a limit of their route slows down: no part of the log, but what holds just now. */

import { duration } from "./words";

/** What lets a batch's calls wait just now: a limit of its route, over all nodes. */
export interface LimitedBy {
  /** In words: "its route's limit: 5 of 5 calls in flight". */
  message: string;
  /** When its next call may start, where that is a second or more ahead. */
  next_at: string | null;
}

/** By batch; those that are not named wait for no limit. */
export type Limited = Readonly<Record<string, LimitedBy>>;

/** What a limit lets a batch's calls wait for, in words. */
export function limitWords({ message, next_at }: LimitedBy, now: number): string {
  const inMs = next_at === null ? 0 : Date.parse(next_at) - now;
  return `waits for ${message}${inMs >= 1000 ? `; next call in ${duration(inMs)}` : ""}`;
}
