import { expect, test } from "vitest";

import type { HistoryQuestion } from "../src/calls";
import type { BatchPage, BatchView } from "../src/contract";
import { historyFile } from "../src/historyFile";
import { batch, counts } from "./builders";

const FIRST = batch({ id: "a", topic: 'Law, "torts"', counts: counts({ cost_nano_usd: 1_500_000 }) });
const MOVED = batch({ id: "b", topic: "=1+1" });
const LAST = batch({ id: "c", topic: null, counts: counts({ generated: 7 }) });

function pages(...lists: BatchView[][]) {
  const asked: HistoryQuestion[] = [];
  const read = async (question: HistoryQuestion): Promise<BatchPage> => {
    const place = asked.push(question) - 1;
    const next_cursor = place + 1 < lists.length ? `page ${place}` : null;
    return { batches: lists[place] ?? [], next_cursor, total: 3, states: {}, as_of: 9 };
  };
  return { asked, read };
}

test("a list of any length is one file of one sequence, as it was asked for", async () => {
  const { asked, read } = pages([FIRST], [FIRST, MOVED], [LAST]);
  const lines = (await historyFile({ model: "m", sort: "-cost" }, "jsonl", read)).trimEnd().split("\n");
  expect(lines.map((line) => JSON.parse(line))).toEqual([FIRST, MOVED, LAST]);
  expect(asked.map(({ model, sort, cursor, at }) => [model, sort, cursor, at])).toEqual([
    ["m", "-cost", undefined, undefined],
    ["m", "-cost", null, 9],
    ["m", "-cost", "page 1", 9],
  ]);
});

test("as a table its texts keep to their cells and none is a formula", async () => {
  const { read } = pages([FIRST, MOVED, LAST]);
  const rows = (await historyFile({ at: 9 }, "csv", read)).split("\r\n");
  expect(rows).toHaveLength(5);
  expect(rows[0]).toMatch(/^id,state,started_at,.*,cost_usd,unpriced_calls$/);
  expect(rows[1]).toContain(',"Law, ""torts""",');
  expect(rows[1]).toMatch(/,0\.0015,$/);
  expect(rows[2]).toContain(",'=1+1,");
  expect(rows[3]).toMatch(/,,\d+,7,/);
});
