/** A filtered list of batches as one file: its pages from the server, in their order. */

import { listBatches, type HistoryQuestion } from "./calls";
import type { BatchPage, BatchView } from "./contract";

export type Format = "csv" | "jsonl";
export type ReadPage = (question: HistoryQuestion) => Promise<BatchPage>;

const PAGE = 1000;
const CELLS: readonly [name: string, of: (batch: BatchView) => string | number | null][] = [
  ["id", ({ id }) => id],
  ["state", ({ state }) => state],
  ["started_at", ({ started_at }) => started_at],
  ["finished_at", ({ finished_at }) => finished_at],
  ["started_by", ({ started_by }) => started_by],
  ["model", ({ model }) => model],
  ["provider", ({ provider }) => provider],
  ["recipe", ({ recipe }) => recipe],
  ["topic", ({ topic }) => topic],
  ["target", ({ target }) => target],
  ["generated", ({ counts }) => counts.generated],
  ["failed", ({ counts }) => counts.failed],
  ["tokens_in", ({ counts }) => counts.tokens_in],
  ["tokens_out", ({ counts }) => counts.tokens_out],
  ["cost_usd", ({ counts }) => (counts.cost_nano_usd === null ? null : counts.cost_nano_usd / 1e9)],
  ["unpriced_calls", ({ counts }) => counts.unpriced_calls],
];

/**
 * All batches that answer `question`, in its order: as CSV what a table shows, as JSON lines whole.
 * All pages are of one sequence, as a batch that moves in the order meanwhile would stand in two or
 * in none.
 */
export async function historyFile(
  question: HistoryQuestion,
  format: Format,
  read: ReadPage = listBatches,
): Promise<string> {
  const at = question.at ?? (await read({ ...question, limit: 1 })).as_of;
  const batches: BatchView[] = [];
  let cursor: string | null = null;
  do {
    const page: BatchPage = await read({ ...question, at, cursor, limit: PAGE });
    batches.push(...page.batches);
    cursor = page.next_cursor;
  } while (cursor !== null);
  if (format === "jsonl") return batches.map((batch) => `${JSON.stringify(batch)}\n`).join("");
  const rows = batches.map((batch) => CELLS.map(([, of]) => cell(of(batch))));
  return [CELLS.map(([name]) => name), ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}

// A text that begins like a formula would be run as one by a table calculation.
function cell(value: string | number | null): string {
  if (typeof value !== "string") return String(value ?? "");
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Let the browser keep `text` as a file. */
export function keepFile(text: string, name: string, type: string): void {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
