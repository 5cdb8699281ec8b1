/** A log file read in pieces, alone and with help: the same events in the same order. */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";

import { eachPiece, packed, readPiece, unpacked, type Helper, type Piece } from "../src/replay/pieces";

const GOLDEN = new URL("../../../tests/golden/folds/wide.jsonl", import.meta.url);
const text = readFileSync(GOLDEN, "utf-8");

/** Reads as a worker does, but for what it holds back. */
function helper(file: Blob, size: number, fails: (place: number) => boolean = () => false): Helper {
  return {
    read: async (place) => {
      if (fails(place)) throw new Error("away");
      return packed(await readPiece(file, place, size));
    },
  };
}

async function read(file: Blob, size: number, helpers: readonly Helper[] = []): Promise<Piece[]> {
  const found: Piece[] = [];
  await eachPiece(file, helpers, (piece) => found.push(piece), () => undefined, size);
  return found;
}

/** What is folded of an event, and its place. */
function folded(pieces: readonly Piece[]): object[] {
  return pieces
    .flatMap(({ events }) => events)
    .map((event) => unpacked(packed({ ...NO_PIECE, events: [event] })).events[0] ?? {});
}

const NO_PIECE: Piece = { lines: 0, messages: 0, erased: 0, unreadable: 0, events: [] };

describe("a file in pieces", () => {
  const file = new Blob([text.replaceAll("node-1", "nøde-1")]);
  const lines = text.split("\n").filter(Boolean).length;

  test.each([16, 64, 5_000, 70_000])("of %i bytes gives each line once", async (size) => {
    const whole = await read(file, file.size);
    const pieces = await read(file, size, size > 64 ? [helper(file, size)] : []);
    expect(folded(pieces)).toEqual(folded(whole));
    expect(pieces.reduce((sum, piece) => sum + piece.messages, 0)).toBe(lines);
  });

  test("that a helper can't read are read without it", async () => {
    const helpers = [helper(file, 5_000, (place) => place % 3 > 0), helper(file, 5_000, () => true)];
    expect(folded(await read(file, 5_000, helpers))).toEqual(folded(await read(file, file.size)));
  });

  test("asks a helper again that was too far ahead at first", async () => {
    const asked = new Set<number>();
    const helpers = Array.from({ length: 9 }, (_, number) =>
      helper(file, 5_000, () => !asked.add(number)),
    );
    await read(file, 5_000, helpers);
    expect(asked.size).toBe(helpers.length);
  });

  test("has one whole line where none ends for long", async () => {
    const [first = "", ...others] = text.split("\n");
    const long = new Blob([[first + " ".repeat(300_000), ...others].join("\n")]);
    const sequences = (pieces: readonly Piece[]): number[] =>
      pieces.flatMap(({ events }) => events.map(({ sequence }) => sequence));
    expect(sequences(await read(long, 5_000))).toEqual(sequences(await read(file, file.size)));
  });

  test("tells the first line that is none, whoever read it", async () => {
    const broken = text.split("\n").filter(Boolean);
    broken[20] = "{";
    broken[25] = "}";
    const damaged = new Blob([broken.join("\n")]);
    for (const helpers of [[], [helper(damaged, 5_000)]])
      await expect(read(damaged, 5_000, helpers)).rejects.toThrow("Line 21 is no line");
  });
});
