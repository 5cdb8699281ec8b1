/** A log in a file: shown as of any event, checked against its manifest, proven against an answer. */

import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";

import { digestOf } from "../src/fold/digest";
import { Chain, payloadHashOf, readLine, type Manifest, type StoredLine } from "../src/fold/export";
import { viewOf, type View } from "../src/fold/view";
import { Checker, type Checked } from "../src/replay/check";
import { FileError, LineCutter } from "../src/replay/lines";
import { eachLine, ReplayLog } from "../src/replay/log";
import { prove, type Sources } from "../src/replay/prove";
import { foldAll, linesOf } from "./folds";

const GOLDEN = new URL("../../../tests/golden/folds/", import.meta.url);
const MINE = "batch_1767225600_00000001";

function read(name: string): string {
  return readFileSync(new URL(name, GOLDEN), "utf-8");
}

function batchLines(name: string): string[] {
  return read(`${name}.jsonl`)
    .split("\n")
    .filter((line) => line.includes(`mill.events.${MINE}.`));
}

/** A log of one batch with the manifest that it adds up to. */
function whole(name: string, changed: Partial<Manifest> = {}): string {
  return manifested(batchLines(name), changed);
}

/** The lines of a log before its first redaction. */
function linesBefore(name: string): string[] {
  const lines = batchLines(name);
  return lines.slice(0, lines.findIndex((line) => line.includes('.redaction"')));
}

function manifested(lines: string[], changed: Partial<Manifest> = {}): string {
  const chain = new Chain();
  for (const line of lines) chain.add(readLine(line) as StoredLine);
  const found = lines.map((line) => readLine(line) as StoredLine);
  const manifest: Manifest = {
    kind: "millstream.export.v1",
    stream: "2026-01-01T00:00:00Z",
    batch_id: MINE,
    count: lines.length,
    first_sequence: found[0]?.sequence ?? 0,
    last_sequence: found.at(-1)?.sequence ?? 0,
    root: chain.root,
    ...changed,
  };
  return [...lines, JSON.stringify(manifest), ""].join("\n");
}

/** A log in which the first sample is another, and `mark` says that it was erased. */
function forged(mark: object): string {
  const lines = batchLines("completed");
  const place = lines.findIndex((line) => line.includes("It is "));
  const stored = readLine(lines[place]!) as StoredLine;
  const payload = JSON.stringify({
    ...(JSON.parse(stored.payload) as object),
    content: { question: "Who?", answer: "Somebody else." },
    redacted: mark,
  });
  const line = JSON.parse(lines[place]!) as object;
  lines[place] = JSON.stringify({ ...line, payload, payload_hash: payloadHashOf(stored) });
  expect(JSON.parse(manifested(lines).split("\n").at(-2)!)).toHaveProperty("root", rootOf("completed"));
  return manifested(lines);
}

function rootOf(name: string): string {
  const chain = new Chain();
  for (const line of batchLines(name)) chain.add(readLine(line) as StoredLine);
  return chain.root;
}

async function check(text: string): Promise<Checked> {
  const checker = new Checker();
  await eachLine(new Blob([text]), (line) => checker.add(readLine(line.text)));
  return checker.end();
}

describe("a replayed file", () => {
  const text = whole("wide");
  const lines = linesOf(text);
  let log: ReplayLog;
  beforeAll(async () => {
    log = new ReplayLog(new Blob([text]));
    const opened = await log.open(() => undefined);
    expect(opened.batches).toEqual([{ id: MINE, events: lines.length }]);
  });

  test("is shown after any of its events, in any order, as the fold of those is", async () => {
    for (const events of [lines.length, 1, 57, 58, 2, lines.length - 1, 57, 30]) {
      const moment = await log.seek(MINE, events);
      const state = foldAll(lines.slice(0, events)).states.get(MINE);
      expect(moment.view).toEqual(state && viewOf(state));
      expect(moment.sequence).toBe(lines[events - 1]?.sequence);
    }
  });

  test("gives its events and the samples up to a moment", async () => {
    const events = await log.events(MINE, 3, 2, lines.length);
    expect(events.map(({ sequence }) => sequence)).toEqual([
      lines[3]?.sequence,
      lines[4]?.sequence,
    ]);
    const made = lines
      .slice(0, 40)
      .filter(({ payload }) => payload.includes('"type":"sample.generated.v1"'));
    const samples = await log.samples(MINE, 0, 100, 40);
    expect(samples.map(({ sequence }) => sequence)).toEqual(made.map(({ sequence }) => sequence));
    expect((await log.seek(MINE, 40)).samples).toBe(made.length);
  });

  test.each([
    ["", "The file is empty."],
    [text.replace('"sequence":', '"sequel":'), "Line 1 is no line of an export: its sequence is missing."],
    [`${lines.length}\n${text}`, "Line 1 is no line of an export: it is no JSON object."],
    [text.replace(/\n\{/, "\n<script>{"), "Line 2 is no line of an export: it is no JSON."],
    [text.split("\n").slice(-2).join("\n"), "No batch begins in this file (0 lines)."],
  ])("that is malformed is refused with the line and the remedy", async (broken, words) => {
    const opening = new ReplayLog(new Blob([broken])).open(() => undefined);
    await expect(opening).rejects.toThrow(words);
    await expect(opening).rejects.toThrow("Download the log again");
  });

  test("that is no UTF-8 names the line", async () => {
    const bytes = new Blob([text.split("\n")[0] ?? "", "\n", new Uint8Array([0xff, 0xfe, 10])]);
    const opening = new ReplayLog(bytes).open(() => undefined);
    await expect(opening).rejects.toThrow("Line 2 is no line of an export: it is no UTF-8 text");
  });
});

test("lines are the same however the bytes are cut", () => {
  const bytes = new TextEncoder().encode("ä\n\nbc\nd");
  for (const size of [1, 2, 3, 100]) {
    const cutter = new LineCutter();
    const found = [];
    for (let at = 0; at < bytes.length; at += size)
      found.push(...cutter.cut(bytes.subarray(at, at + size)));
    found.push(...cutter.rest());
    expect(found.map(({ text, start, end }) => [text, start, end])).toEqual([
      ["ä", 0, 3],
      ["", 3, 4],
      ["bc", 4, 7],
      ["d", 7, 8],
    ]);
  }
});

describe("the check of a file", () => {
  test.each(["completed", "redacted", "wide"])("finds %s whole", async (name) => {
    expect((await check(whole(name))).damage).toBeNull();
  });

  test("counts what was erased", async () => {
    expect((await check(whole("redacted"))).erased).toBeGreaterThan(0);
  });

  test("tells what was erased after the end of the file from damage", async () => {
    const before = linesBefore("redacted");
    const found = await check(manifested(before));
    expect(found).toMatchObject({ events: before.length, damage: null });
    expect(found.erasedSince).toBeGreaterThan(0);
    const unmarked = before.map((line) => line.replace('\\"redacted\\":{', '\\"retracted\\":{'));
    expect((await check(manifested(unmarked))).damage).toContain("which it says was erased");
  });

  test.each([
    [{ by: 1_000_000_000 }],
    [{ by: 1_000_000_000, erased: [], reason: "" }],
    [{ by: 1_000_000_000, erased: ["content"], reason: "asked for" }],
    [{ by: 1_000_000_000, erased: ["reason"], reason: "(redacted)" }],
  ])("takes no event for an erased one that holds its texts: %j", async (mark) => {
    expect((await check(forged(mark))).damage).toContain("which it says was erased");
  });

  test.each([
    ["a cost", '\\"cost_nano_usd\\":14', '\\"cost_nano_usd\\":15'],
    ["a text that was left", "It is 3.", "It is 9."],
    ["a reason", '\\"reason\\":\\"asked for\\"', '\\"reason\\":\\"a whim\\"'],
  ])("compares what stands for an event with its redaction: %s", async (_, old, other) => {
    const lines = batchLines("redacted");
    const place = lines.findIndex((line) => line.includes('"payload_hash":') && line.includes(old));
    expect(place).toBeGreaterThanOrEqual(0);
    lines[place] = lines[place]!.replace(old, other);
    expect((await check(manifested(lines))).damage).toContain("which it says was erased");
  });

  const text = whole("completed");
  const lines = text.split("\n");
  test.each([
    [text.replace("It is 3", "It is 4"), "an event was changed or moved"],
    [text.replace('"time_us":17', '"time_us":18'), "an event was changed or moved"],
    [lines.filter((_, place) => place !== 7).join("\n"), "but its manifest tells of"],
    [lines.slice(0, -2).join("\n"), "it ends before its manifest"],
    [[...lines.slice(0, 5), lines[6], lines[5], ...lines.slice(7)].join("\n"), "comes after"],
    [`${text}${lines[0]}\n`, "a line follows the manifest"],
    [
      whole("redacted").replace(/"payload_hash":"./, '"payload_hash":"f'),
      "which it says was erased",
    ],
  ])("finds damage", async (broken, words) => {
    expect(broken).not.toBe(text);
    expect((await check(broken)).damage).toContain(words);
  });
});

describe("a proof", () => {
  function sources(text: string, change: (view: View) => void = () => undefined): Sources {
    return {
      openLog: async () => new Blob([text]).stream(),
      fetchView: async (sequence) => {
        const upTo = linesOf(text).filter((line) => line.sequence <= sequence);
        const state = foldAll(upTo).states.get(MINE);
        const view = { ...(state && viewOf(state)) } as View;
        change(view);
        const digits = String(view["seed"]);
        const body = JSON.stringify({ batch: { ...view, seed: 0 }, as_of: sequence });
        return body.replace('"seed":0', `"seed":${digits}`);
      },
    };
  }
  const ask = (given: Sources, at: number | null = null) =>
    prove(MINE, at, given, () => undefined);

  test.each(["completed", "failed", "live", "redacted"])("of %s names its digest", async (name) => {
    const text = whole(name);
    const state = foldAll(linesOf(text)).states.get(MINE);
    expect(await ask(sources(text))).toMatchObject({
      kind: "proven",
      sequence: state?.sequence,
      events: linesOf(text).length,
      digest: digestOf(state && viewOf(state)),
    });
  });

  test("of a moment of the past folds what was there by then", async () => {
    const text = whole("completed");
    const at = linesOf(text)[20]?.sequence ?? 0;
    expect(await ask(sources(text), at)).toMatchObject({ kind: "proven", sequence: at, events: 21 });
  });

  test("tells each field that differs, and never says proven", async () => {
    const changed = sources(whole("completed"), (view) => {
      view["seed"] = 9223372036854775806n;
      view["counts"] = { ...(view["counts"] as object), generated: 1 };
    });
    const proof = await ask(changed);
    expect(proof).toMatchObject({ kind: "differs" });
    const fields = proof.kind === "differs" ? proof.differences.map(({ field }) => field) : [];
    expect(fields).toEqual(["counts.generated", "seed"]);
  });

  test.each([
    ["a damaged log", sources(whole("completed").replace("It is 3", "It is 4")), "not whole"],
    [
      "a log that says texts were erased after it",
      sources(manifested(linesBefore("redacted"))),
      "run `millstream audit verify`",
    ],
    ["a log cut off", sources(whole("completed").split("\n").slice(0, 9).join("\n")), "not whole"],
    ["a type that nobody knows", sources(whole("newer")), "can't read event"],
    ["an odd answer", sources(whole("live"), (view) => (view["mood"] = 1)), "(mood)"],
    ["an unreadable answer", sources(whole("live"), (view) => (view["target"] = "9")), "target"],
  ])("is refused for %s", async (_, given, words) => {
    const proof = await ask(given);
    expect(proof).toMatchObject({ kind: "unproven" });
    expect(proof.kind === "unproven" && proof.words).toContain(words);
  });
});

test("an error of a file says so", () => expect(new FileError("x").name).toBe("FileError"));
