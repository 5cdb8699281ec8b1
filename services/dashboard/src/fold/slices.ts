/** How a slice's state follows another one: the mirror of `millstream.domain.slice`. */

import type { ErrorInfo, SliceState } from "./events";
import {
  and,
  areApart,
  fullMask,
  hexOf,
  isWithin,
  maskOf,
  NONE,
  or,
  without,
  type Mask,
} from "./masks";

export const NEW_STATE: SliceState = {
  epoch: 0,
  node: "",
  generated: "0",
  failed: "0",
  abandoned: "0",
  attempts: {},
  rejected: 0,
  attempts_failed: 0,
  tokens_in: 0,
  tokens_out: 0,
  cost_nano_usd: null,
  wasted_nano_usd: null,
  unpriced: null,
  errors: {},
  last_error: null,
  barren_claims: 0,
  on_trial: null,
  unconfirmed: 0,
  allowance: null,
  in_flight: null,
  closed: false,
};

const OUTCOMES = ["generated", "failed", "abandoned"] as const;
const NEVER_SHRINKING = [
  "epoch",
  "rejected",
  "attempts_failed",
  "tokens_in",
  "tokens_out",
  "unconfirmed",
] as const;
const MONEY = ["cost_nano_usd", "wasted_nano_usd", "unpriced"] as const;

/** The slots that have an outcome. */
export function resolved(state: SliceState): Mask {
  return or(or(maskOf(state.generated), maskOf(state.failed)), maskOf(state.abandoned));
}

/**
 * `old` moved on to `next`, and the number of rules that were broken. The first outcome of a
 * slot stands and money never shrinks, whatever the log says.
 */
export function merge(
  old: SliceState,
  next: SliceState,
  size: number,
  mayAbandon: boolean,
): [SliceState, number] {
  return follows(old, next, size, mayAbandon) ? [next, 0] : salvaged(old, next, size, mayAbandon);
}

function follows(old: SliceState, next: SliceState, size: number, mayAbandon: boolean): boolean {
  return (
    marksFollow(old, next, size) &&
    (mayAbandon || (next.abandoned === old.abandoned && next.closed === old.closed)) &&
    (next.closed || !old.closed) &&
    NEVER_SHRINKING.every((name) => old[name] <= next[name]) &&
    MONEY.every((name) => highest(old[name], next[name]) === next[name]) &&
    (areEqual(old.errors, next.errors) ||
      areEqual(highestEach(old.errors, next.errors), next.errors))
  );
}

function marksFollow(old: SliceState, next: SliceState, size: number): boolean {
  const generated = maskOf(next.generated);
  const failed = maskOf(next.failed);
  const abandoned = maskOf(next.abandoned);
  const made = or(generated, failed);
  return (
    areApart(generated, failed) &&
    areApart(made, abandoned) &&
    isWithin(or(made, abandoned), fullMask(size)) &&
    OUTCOMES.every(
      (name) => old[name] === next[name] || isWithin(maskOf(old[name]), maskOf(next[name])),
    )
  );
}

function salvaged(
  old: SliceState,
  next: SliceState,
  size: number,
  mayAbandon: boolean,
): [SliceState, number] {
  const kept = { ...next };
  let broken = 0;
  let taken = resolved(old);
  for (const name of OUTCOMES) {
    const isRefused = name === "abandoned" && !mayAbandon;
    const fresh = isRefused ? NONE : without(and(maskOf(next[name]), fullMask(size)), taken);
    taken = or(taken, fresh);
    kept[name] = hexOf(or(maskOf(old[name]), fresh));
    broken += Number(kept[name] !== next[name]);
  }
  for (const name of NEVER_SHRINKING) {
    kept[name] = Math.max(old[name], next[name]);
    broken += Number(kept[name] !== next[name]);
  }
  for (const name of MONEY) {
    kept[name] = highest(old[name], next[name]);
    broken += Number(kept[name] !== next[name]);
  }
  kept.errors = highestEach(old.errors, next.errors);
  kept.closed = old.closed || (next.closed && mayAbandon);
  broken += Number(!areEqual(kept.errors, next.errors)) + Number(kept.closed !== next.closed);
  return [kept, broken];
}

function highest(old: number | null, next: number | null): number | null {
  if (old === null || next === null) return old ?? next;
  return Math.max(old, next);
}

function highestEach(
  old: Record<string, number>,
  next: Record<string, number>,
): Record<string, number> {
  const merged = { ...old };
  for (const [category, count] of Object.entries(next))
    merged[category] = Math.max(merged[category] ?? 0, count);
  return merged;
}

/** Whether two tallies have the same names with the same counts. */
export function areEqual(a: Record<string, number>, b: Record<string, number>): boolean {
  if (a === b) return true;
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}

const REDACTED_TEXT = "(redacted)";

/** An error without its message, where it is one of `slots`. */
export function withoutMessage(error: ErrorInfo | null, slots: readonly number[]): ErrorInfo | null {
  if (error === null || error.slot === null || !slots.includes(error.slot)) return error;
  return error.message === REDACTED_TEXT ? error : { ...error, message: REDACTED_TEXT };
}
