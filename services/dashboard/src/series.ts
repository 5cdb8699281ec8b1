/**
 * The lines of the statistics' charts: one for each model of each provider, or for each provider;
 * what each tells of a bucket, and how it is told apart from the others.
 */

import type { Timeline, TimelineRow } from "./analysis";

export type Split = "model" | "provider";

export interface Line {
  name: string;
  /** What it tells of the bucket that begins at this second since 1970; null where nobody knows. */
  at(second: number): number | null;
}

/** What the line of such a row is called. */
export function lineOf({ model, provider }: Pick<TimelineRow, "model" | "provider">): string {
  if (model === null) return provider;
  return model.startsWith(`${provider}/`) ? model : `${model} (${provider})`;
}

/** When the buckets begin that an answer covers, with or without calls, in seconds since 1970. */
export function bucketsOf(answer: Pick<Timeline, "start" | "end" | "bucket_s">): number[] {
  if (answer.start === null || answer.end === null) return [];
  const first = secondOf(answer.start);
  const count = Math.round((secondOf(answer.end) - first) / answer.bucket_s);
  return Array.from({ length: count }, (_, place) => first + place * answer.bucket_s);
}

/** The buckets with a call: a table names no others. */
export function busyOf(rows: readonly TimelineRow[]): number[] {
  return [...new Set(rows.map(({ start }) => secondOf(start)))].sort((a, b) => a - b);
}

/**
 * The lines of what `of` measures, by name. A count is 0 in a bucket without a row, since the answer
 * covers it; a percentile or a ratio of no calls is nothing.
 */
export function linesOf(
  rows: readonly TimelineRow[],
  of: (row: TimelineRow) => number | null,
  isCount: boolean,
): Line[] {
  const lines = new Map<string, Map<number, number | null>>();
  for (const row of rows) {
    const name = lineOf(row);
    const found = lines.get(name) ?? new Map<number, number | null>();
    lines.set(name, found.set(secondOf(row.start), of(row)));
  }
  return [...lines.keys()].sort().map((name) => {
    const found = lines.get(name) ?? new Map<number, number | null>();
    // What is never known, such as the cost where there is no price, is not 0 in between either.
    const idle = isCount && [...found.values()].some((value) => value !== null) ? 0 : null;
    return { name, at: (second) => (found.has(second) ? (found.get(second) ?? null) : idle) };
  });
}

const secondOf = (time: string): number => Date.parse(time) / 1000;

/** How a line is drawn, and the border of its mark in the legend. */
export interface Dress {
  colour: string;
  dash: number[];
  border: "solid" | "dashed" | "dotted" | "double";
}

/** Each is at least 3 : 1 against both grounds. */
const COLOURS = ["#3b82f6", "#d97706", "#059669", "#a855f7", "#e11d48", "#0891b2", "#7c8a10"] as const;
/** Once all colours are taken they come again with the next of these. */
const PATTERNS: readonly Omit<Dress, "colour">[] = [
  { border: "solid", dash: [] },
  { border: "dashed", dash: [9, 5] },
  { border: "dotted", dash: [2, 4] },
  { border: "double", dash: [12, 4, 2, 4] },
];

/** The dress of the line at this place: another one for each of the first 28. */
export function dressOf(place: number): Dress {
  const round = Math.floor(place / COLOURS.length) % PATTERNS.length;
  const pattern = PATTERNS[round] ?? { border: "solid", dash: [] };
  return { colour: COLOURS[place % COLOURS.length] ?? COLOURS[0], ...pattern };
}
