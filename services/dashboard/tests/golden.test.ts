/** This fold and Python's are one: the same logs lead to the same states. */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

import { canonical, digestOf } from "../src/fold/digest";
import { readView } from "../src/fold/events";
import { readExact } from "../src/fold/json";
import { viewOf } from "../src/fold/view";
import { foldAll, linesOf } from "./folds";

const GOLDEN = new URL("../../../tests/golden/folds/", import.meta.url);
const names = readdirSync(GOLDEN)
  .filter((name) => name.endsWith(".jsonl"))
  .map((name) => name.replace(".jsonl", ""));

interface Expected {
  digests: Record<string, string>;
  views: Record<string, unknown>;
  view_digests: Record<string, string>;
  unknown: number;
  malformed: number;
  system: number;
}

function read(name: string): string {
  return readFileSync(new URL(name, GOLDEN), "utf-8");
}

test("there are golden logs", () => expect(names.length).toBeGreaterThan(5));

test.each(names)("the log %s folds to what Python's fold comes to", (name) => {
  const expected = readExact(read(`${name}.expected.json`)) as Expected;
  const { states, ...outcome } = foldAll(linesOf(read(`${name}.jsonl`)));
  for (const [id, view] of Object.entries(expected.views)) {
    const state = states.get(id);
    const folded = state && viewOf(state);
    expect(folded).toEqual(readView(view));
    expect(digestOf(folded)).toBe(expected.view_digests[id]);
    expect(digestOf(readView(view))).toBe(expected.view_digests[id]);
  }
  const { digests, unknown, malformed, system } = expected;
  expect(outcome).toEqual({ digests, unknown, malformed, system });
});

/** Logs driven by chance, which pytest writes: one JSON object a line. */
const HISTORIES_MS = 60_000;
const HISTORIES = process.env["MILLSTREAM_HISTORIES"] ?? "";

test.skipIf(!existsSync(HISTORIES))("histories of chance fold to what Python's fold comes to", () => {
  for (const line of readFileSync(HISTORIES, "utf-8").trimEnd().split("\n")) {
    const { log, digests } = JSON.parse(line) as { log: string; digests: object };
    const outcome = foldAll(linesOf(log));
    expect(outcome.digests, log).toEqual(digests);
  }
}, HISTORIES_MS);

test.each([
  [0.1, "0.1"],
  [1e-7, "1e-7"],
  [1e-6, "0.000001"],
  [123456789012345680000, "123456789012345680000"],
  [1e21, "1e+21"],
  [-0, "0"],
  [31.0, "31"],
  [9223372036854775807n, "9223372036854775807"],
  ["é\u2028\u0007\"", '"é\u2028\\u0007\\""'],
])("%s has the canonical text %s", (value, text) => expect(canonical(value)).toBe(text));

test("a number with more digits than a double holds is read exactly", () => {
  const read = readExact('{"a": 9223372036854775807, "b": "9223372036854775807", "c": -1.5}');
  expect(read).toEqual({ a: 9223372036854775807n, b: "9223372036854775807", c: -1.5 });
});
