import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { OTHER_MODEL, plus, sortErrors, toBody, type StartValues } from "../src/start";
import {
  axisTimes,
  budgetWords,
  costWords,
  duration,
  modelNote,
  money,
  nearlyUsed,
  seconds,
  waitsFor,
  wasted,
  whole,
} from "../src/words";
import { batch, counts as tally } from "./builders";

const VALUES: StartValues = {
  smart: true,
  recipe: "",
  model: "",
  otherModel: "",
  provider: "",
  target: "20",
  topic: "",
  difficulty: "",
  sampleType: "",
  instruction: "",
  concurrency: "",
  pool: "",
  maxCost: "",
  maxTokens: "",
  maxMinutes: "",
};

describe("words", () => {
  test("numbers are put into words by their module alone", () => {
    const sources = join(import.meta.dirname, "../src");
    const files = readdirSync(sources, { recursive: true, encoding: "utf8" });
    const others = files.filter((file) => /[.]tsx?$/.test(file) && file !== "words.ts");
    // Percents are for styles, which know no locale.
    const own = others.filter((file) =>
      /toLocale|Intl[.]|toFixed[(]\d[)](?!}%)/.test(readFileSync(join(sources, file), "utf8")),
    );
    expect(others.length).toBeGreaterThan(100);
    expect(own).toEqual([]);
  });

  test.each([
    [null, "—"],
    [0, "$0.00"],
    [184_300, "$0.000184"],
    [64_000_000, "$0.0640"],
    [1_234_567_890, "$1.23"],
    [1_234_500_000_000, "$1,234.50"],
  ])("money of %s nano dollars is %s", (nano, words) => expect(money(nano)).toBe(words));

  test.each([
    [-5, "0 s"],
    [59_999, "59 s"],
    [65_000, "1 m 05 s"],
    [7_380_000, "2 h 03 m"],
  ])("%s ms are %s", (ms, words) => expect(duration(ms)).toBe(words));

  test.each([
    [0, "0.000 s"],
    [52.4, "0.052 s"],
    [1_234, "1.23 s"],
    [12_345, "12.3 s"],
    [185_000, "3 m 05 s"],
  ])("%s ms are exactly %s", (ms, words) => expect(seconds(ms)).toBe(words));

  test("an axis tells the day or the year of its times where it begins", () => {
    const at = (...parts: [number, number, number?, number?]): number =>
      new Date(...parts).getTime() / 1000;
    const night = [at(2026, 8, 21, 12), at(2026, 8, 22, 0), at(2026, 8, 22, 12)];
    const spaces = /\u202f/g;
    expect(axisTimes(night, 43_200).map((words) => words.replace(spaces, " "))).toEqual([
      "12:00 PM\nSep 21",
      "12:00 AM\nSep 22",
      "12:00 PM",
    ]);
    const moment = at(2026, 8, 21, 12);
    expect(axisTimes([moment, moment + 0.5, moment + 1], 0.5).slice(1)).toEqual([
      "",
      expect.stringMatching(/^12:00:01/),
    ]);
    expect(axisTimes([at(2026, 11, 31), at(2027, 0, 1)], 86_400)).toEqual([
      "Dec 31\n2026",
      "Jan 1\n2027",
    ]);
  });

  test("a whole number that was read inexactly says so", () => {
    expect(whole(2 ** 53 - 1)).toBe("9007199254740991");
    expect(whole(2 ** 60)).toMatch(/^≈ /);
  });

  test("a cost is a lower bound once a call had no known price", () => {
    expect(costWords(tally({ cost_nano_usd: 5e9, unpriced_calls: null }))).toBe("$5.00");
    expect(costWords(tally({ cost_nano_usd: 5e9, unpriced_calls: 1 }))).toBe("≥ $5.00");
    expect(costWords(tally({ cost_nano_usd: null, tokens_in: 3, unpriced_calls: 1 }))).toBe("—");
  });

  test("nothing is wasted when the cost is known and no call was lost, else it is unknown", () => {
    const none = { rejected: 0, attempts_failed: 0, failed: 0, abandoned: 0 };
    const counts = { generated: 1, pending: 0, tokens_in: 1, tokens_out: 1, unconfirmed_calls: 0, ...none, unpriced_calls: null };
    expect(wasted({ ...counts, cost_nano_usd: 5, wasted_nano_usd: null })).toBe(0);
    expect(wasted({ ...counts, cost_nano_usd: null, wasted_nano_usd: null })).toBeNull();
    expect(wasted({ ...counts, failed: 1, cost_nano_usd: 5, wasted_nano_usd: null })).toBeNull();
    expect(wasted({ ...counts, failed: 1, cost_nano_usd: 5, wasted_nano_usd: 3 })).toBe(3);
  });

  test("a model that is no real one at work is marked", () => {
    expect(modelNote("simulated/fast", "simulated")).toBe("simulated");
    expect(modelNote("some-alias", "simulated")).toBe("simulated");
    expect(modelNote("local/smollm2-135m", "local")).toBe("local 135M demo model");
    expect(modelNote("gpt-oss-120b", "groq")).toBeNull();
  });
});

describe("a batch that waits", () => {
  const held_up = {
    kind: "throttled" as const,
    model: "gpt-oss-120b",
    since: "2026-09-21T12:00:00Z",
    until: "2026-09-21T12:00:20Z",
    message: "the provider asked to wait 20 s",
  };
  const at = (iso: string): number => Date.parse(iso);

  test("tells the cause and the next call, as long as it lives", () => {
    const waiting = batch({ held_up });
    expect(waitsFor(waiting, at("2026-09-21T12:00:05Z"))).toMatch(
      /^gpt-oss-120b is throttled: the provider asked to wait 20 s; next call at /,
    );
    expect(waitsFor(waiting, at("2026-09-21T12:00:21Z"))).toMatch(/; trying again$/);
    const told = { ...held_up, kind: "blocked" as const, message: "blocked: 5 calls failed" };
    expect(waitsFor(batch({ held_up: told }), 0)).toMatch(/^gpt-oss-120b is blocked: 5 calls failed;/);
    const twice = ["throttled until 12:00:20 UTC: slowly", "blocked: slowly; next probe at 12:00:20 UTC"];
    for (const message of twice)
      expect(waitsFor(batch({ held_up: { ...held_up, message } }), at("2026-09-21T12:00:21Z"))).toBe(
        "gpt-oss-120b is throttled: slowly; trying again",
      );
    expect(waitsFor(batch({ held_up, state: "stopped" }), 0)).toBeNull();
    expect(waitsFor(batch(), 0)).toBeNull();
  });

  test("says which of its budgets are nearly used, while it lives", () => {
    const warned = { budgets_warned: ["cost", "attempts"] };
    expect(nearlyUsed(batch(warned))).toBe("80 % or more used: cost, calls");
    expect([nearlyUsed(batch()), nearlyUsed(batch({ ...warned, state: "completed" }))]).toEqual(["", ""]);
  });

  test("shows each of its budgets beside what is used", () => {
    expect(budgetWords(batch())).toEqual([]);
    const budgets = { ...batch().budgets, max_cost_nano_usd: 2e9, max_failure_ratio: 0.25 };
    const spent = tally({ cost_nano_usd: 5e8 });
    expect(budgetWords(batch({ budgets, counts: spent }))).toEqual([
      "$0.500 of $2.00",
      "at most 25 % failed",
    ]);
  });
});

describe("the start form", () => {
  test("leaves out what the server may choose", () => {
    expect(toBody(VALUES)).toEqual({ target: 20, smart_mode: true });
    const chosen = { ...VALUES, model: "simulated/fast", topic: "Tort - Negligence" };
    expect(toBody(chosen)).toEqual({ target: 20, smart_mode: true });
    expect(toBody({ ...VALUES, pool: "gpu" })).toMatchObject({ pool: "gpu" });
    expect(toBody({ ...chosen, smart: false })).toEqual({
      target: 20,
      smart_mode: false,
      model: "simulated/fast",
      topic: "Tort - Negligence",
    });
  });

  test("sends another model's name though it is empty, for the server to refuse", () => {
    const other = { ...VALUES, smart: false, model: OTHER_MODEL, otherModel: " " };
    expect(toBody(other)).toEqual({ target: 20, smart_mode: false, model: "" });
  });

  test("sends a wrong number as it was typed, for the server to name", () => {
    expect(toBody({ ...VALUES, target: "many", concurrency: "1.5" })).toMatchObject({
      target: "many",
      concurrency: "1.5",
    });
  });

  test("adds to the target, whatever stands there", () => {
    expect(plus("20", 10)).toBe("30");
    expect(plus("many", 50)).toBe("50");
    expect(plus("-3", 10)).toBe("10");
  });

  test("puts errors to the fields on show and the rest above them", () => {
    const errors = [
      { field: "body.target", message: "too large" },
      { field: "model", message: "unknown" },
    ];
    expect(sortErrors(errors, false)).toEqual({
      byField: { target: "too large", model: "unknown" },
      others: [],
    });
    expect(sortErrors(errors, true)).toEqual({
      byField: { target: "too large" },
      others: ["model: unknown"],
    });
    const quoted = [{ field: "concurrency", message: "give a whole number without quotes" }];
    expect(sortErrors(quoted, true).byField).toEqual({ concurrency: "give a whole number" });
  });
});
