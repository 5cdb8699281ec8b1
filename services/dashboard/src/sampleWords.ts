/** A sample in words: its JSON, its fields, whence it is. */

import type { SampleView } from "./contract";
import { localTime, money, plural, rounded, UNKNOWN } from "./words";

export function asJson(sample: SampleView): string {
  return JSON.stringify(sample, null, 2);
}

/** A field's value as it is read. */
export function textOf(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

/** Where a sample is from and what it took. */
export function originOf({ model, attempt, created_at, usage }: SampleView): string {
  const { tokens_in, tokens_out, cost_nano_usd, latency_ms } = usage;
  const isCounted = tokens_in !== null && tokens_out !== null;
  return [
    `${model}, attempt ${attempt}`,
    isCounted ? plural(tokens_in + tokens_out, "token") : `${UNKNOWN} tokens`,
    money(cost_nano_usd),
    latency_ms === null ? `${UNKNOWN} ms` : `${rounded(latency_ms)} ms`,
    localTime(created_at),
  ].join(" · ");
}
