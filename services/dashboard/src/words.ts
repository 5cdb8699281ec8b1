/** Numbers and times in words; what is unknown is a dash, never a zero. */

import { isLive, type BatchView, type Budgets, type Counts } from "./contract";

export const UNKNOWN = "—";

/** Numbers and times are written as the reader's browser has them, here and nowhere else. */
const LOCALE = undefined;

// Made once: toLocaleString makes one anew at each call, which rows do thousands of times a second.
const COUNT = new Intl.NumberFormat(LOCALE);
const SHORT = new Intl.NumberFormat(LOCALE, { notation: "compact", maximumSignificantDigits: 3 });
const DECIMALS = new Map<number, Intl.NumberFormat>();
const DOLLARS = new Map<number, Intl.NumberFormat>();

/** A count with thousands marked. */
export function grouped(count: number): string {
  return COUNT.format(count);
}

/** The nearest whole number with thousands marked. */
export function rounded(value: number): string {
  return COUNT.format(Math.round(value));
}

/** A number with so many digits after the point. */
export function decimals(value: number, digits: number): string {
  return kept(DECIMALS, digits, {}).format(value);
}

/** "1.5M", "0.00012": three digits that count, for where there is little room. */
export function short(value: number): string {
  return SHORT.format(value);
}

function kept(
  made: Map<number, Intl.NumberFormat>,
  digits: number,
  options: Intl.NumberFormatOptions,
): Intl.NumberFormat {
  const own = { ...options, minimumFractionDigits: digits, maximumFractionDigits: digits };
  const format = made.get(digits) ?? new Intl.NumberFormat(LOCALE, own);
  made.set(digits, format);
  return format;
}

/** "1 sample", "2 samples", with thousands marked. */
export function plural(count: number, noun: string, many = `${noun}s`): string {
  return `${grouped(count)} ${count === 1 ? noun : many}`;
}

/** The part of a batch id that tells batches of one day apart. */
export function shortId(id: string): string {
  return id.replace(/^batch_\d+_/, "batch ");
}

/** Nano US dollars as dollars: cents for large sums, three digits that count for small ones. */
export function money(nanoUsd: number | null): string {
  if (nanoUsd === null) return UNKNOWN;
  const usd = nanoUsd / 1e9;
  const isPlain = usd === 0 || usd >= 1;
  const digits = isPlain ? 2 : Math.min(9, Math.max(2, 2 - Math.floor(Math.log10(usd))));
  return kept(DOLLARS, digits, IN_DOLLARS).format(usd);
}

/** Whether a batch used tokens at no known price, in all of its calls or in some. */
export function isUnpriced(counts: Counts): boolean {
  return (counts.unpriced_calls ?? 0) > 0 || (counts.cost_nano_usd === null && tokens(counts) > 0);
}

/** What a batch has cost: at least so much where the price of some calls is not known. */
export function costWords(counts: Counts): string {
  const isMore = counts.cost_nano_usd !== null && isUnpriced(counts);
  return (isMore ? "≥ " : "") + money(counts.cost_nano_usd);
}

/** How many batches used tokens that a sum is without; "" where all prices are known. */
export function unpricedWords(batches: number, isSomeKnown: boolean): string {
  if (batches === 0) return "";
  return `${isSomeKnown ? "+ " : ""}unknown prices in ${plural(batches, "batch", "batches")}`;
}

// With the locale's own sign: "$" alone is another dollar in Canada.
const IN_DOLLARS = { style: "currency", currency: "USD" } as const;

/** What was paid for no sample: known to be nothing when the cost is known and no call was lost. */
export function wasted(counts: Counts): number | null {
  const lost = counts.rejected + counts.attempts_failed + counts.failed + counts.abandoned;
  return counts.wasted_nano_usd ?? (counts.cost_nano_usd !== null && lost === 0 ? 0 : null);
}

/** A whole number without marks; one too large to be read exactly says so. */
export function whole(value: number): string {
  return Number.isSafeInteger(value) ? String(value) : `≈ ${value}`;
}

/** Whole seconds as "45 s", "1 m 05 s" or "2 h 03 m". */
export function duration(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const minutes = Math.floor(seconds / 60);
  const two = (value: number): string => String(value).padStart(2, "0");
  if (minutes === 0) return `${seconds} s`;
  if (minutes < 60) return `${minutes} m ${two(seconds % 60)} s`;
  return `${grouped(Math.floor(minutes / 60))} h ${two(minutes % 60)} m`;
}

/** Milliseconds as seconds: with three digits that count below 100 s, like "0.052 s" or "12.3 s". */
export function seconds(milliseconds: number): string {
  if (milliseconds >= 100_000) return duration(milliseconds);
  const value = milliseconds / 1000;
  const digits = value >= 10 ? 1 : value >= 1 ? 2 : 3;
  return `${decimals(value, digits)} s`;
}

/** How long the batch has run at `now` (ms), or ran in all. */
export function batchDuration(batch: BatchView, now: number): string {
  const from = Date.parse(batch.started_at);
  return duration((batch.finished_at ? Date.parse(batch.finished_at) : now) - from);
}

/** How fast samples come, by the second or, where less than one does, by the minute. */
export function paceWords(perSecond: number): string {
  if (perSecond < 1) return `${rounded(perSecond * 60)}/min`;
  if (perSecond < 10) return `${decimals(perSecond, 1)}/s`;
  return `${rounded(perSecond)}/s`;
}

export function tokens(counts: Counts): number {
  return counts.tokens_in + counts.tokens_out;
}

/** The share `part` of `whole` in percent, 0 to 100. */
export function percent(part: number, whole: number): number {
  return whole > 0 ? Math.min(100, (100 * part) / whole) : 0;
}

const TODAY = new Intl.DateTimeFormat(LOCALE, { timeStyle: "medium" });
const OTHER_DAY = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "short" });

/** A time of today without its date, another one with it; in the reader's zone. */
export function localTime(iso: string, now: number = Date.now()): string {
  const time = new Date(iso);
  if (Number.isNaN(time.getTime())) return UNKNOWN;
  const isToday = time.toDateString() === new Date(now).toDateString();
  return (isToday ? TODAY : OTHER_DAY).format(time);
}

const DAY_S = 86_400;
const YEAR = new Intl.DateTimeFormat(LOCALE, { year: "numeric" });
const DAY = new Intl.DateTimeFormat(LOCALE, { month: "short", day: "numeric" });
const MINUTE = new Intl.DateTimeFormat(LOCALE, { hour: "numeric", minute: "2-digit" });

/**
 * Times on an axis, in seconds and `step` apart: as much of each as tells it from the next, and in a
 * second line, where it is another than before, the day or year that it is in. Those between two
 * seconds stay without words.
 */
export function axisTimes(times: readonly number[], step: number): string[] {
  const own = step >= DAY_S ? DAY : step >= 60 ? MINUTE : TODAY;
  const outer = step >= DAY_S ? YEAR : DAY;
  let before = "";
  return times.map((seconds) => {
    if (!Number.isInteger(seconds)) return "";
    const within = outer.format(seconds * 1000);
    const words = own.format(seconds * 1000) + (within === before ? "" : `\n${within}`);
    before = within;
    return words;
  });
}

/** What kind of model made these samples, when it is not a real one at work; else null. */
export function modelNote(model: string, provider: string): string | null {
  if (provider === "simulated" || model.startsWith("simulated/")) return "simulated";
  if (model.startsWith("local/smollm2-135m")) return "local 135M demo model";
  if (provider === "local" || model.startsWith("local/")) return "local model";
  return null;
}

/** What a message says of kind and time, in UTC: both stand beside it, in the reader's time. */
const SAID_BESIDE =
  /^(?:throttled|blocked)(?: until \d\d:\d\d:\d\d UTC)?: |; next probe at \d\d:\d\d:\d\d UTC$/g;

/** What a batch waits for, in words; null for one that waits for no provider. */
export function waitsFor(batch: BatchView, now: number): string | null {
  const wait = batch.held_up;
  if (!wait || !isLive(batch.state)) return null;
  const why = wait.message.replace(SAID_BESIDE, "");
  const said = why ? `: ${why}` : "";
  const isOver = Date.parse(wait.until) <= now;
  const next = isOver ? "trying again" : `next call at ${localTime(wait.until, now)}`;
  return `${wait.model} is ${wait.kind}${said}; ${next}`;
}

/** The budgets of which a batch that lives has used nearly all; "" where there is none. */
export function nearlyUsed({ state, budgets_warned }: BatchView): string {
  if (!isLive(state) || budgets_warned.length === 0) return "";
  const words = budgets_warned.map((name) => (name === "attempts" ? "calls" : name));
  return `80 % or more used: ${words.join(", ")}`;
}

/** The bounds of a batch, each with what is used of it; empty when it has none. */
export function budgetWords(batch: BatchView): string[] {
  const { counts } = batch;
  const bounds: Budgets = batch.budgets;
  const words: string[] = [];
  if (bounds.max_cost_nano_usd !== null)
    words.push(`${costWords(counts)} of ${money(bounds.max_cost_nano_usd)}`);
  if (bounds.max_tokens !== null)
    words.push(`${grouped(tokens(counts))} of ${plural(bounds.max_tokens, "token")}`);
  if (bounds.max_attempts !== null) words.push(`at most ${plural(bounds.max_attempts, "call")}`);
  if (bounds.max_duration_s !== null)
    words.push(`at most ${duration(bounds.max_duration_s * 1000)}`);
  if (bounds.max_failure_ratio !== null)
    words.push(`at most ${Math.round(bounds.max_failure_ratio * 100)} % failed`);
  return words;
}

/** "average_tokens" as "average tokens". */
export function spaced(name: string): string {
  return name.replaceAll("_", " ");
}

/** An error in words, whatever was thrown. */
export function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
