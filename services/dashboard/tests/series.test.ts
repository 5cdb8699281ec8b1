import { expect, test } from "vitest";

import { lineOf } from "../src/series";

test("a line per model names its provider where the name does not", () => {
  const rows = [
    { model: "openai/a", provider: "openai" },
    { model: "a", provider: "openai" },
    { model: "a", provider: "local" },
  ];
  expect(rows.map(lineOf)).toEqual(["openai/a", "a (openai)", "a (local)"]);
});

test("a line of all models of a provider bears its name", () => {
  expect(lineOf({ model: null, provider: "openai" })).toBe("openai");
});
