import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { keptList } from "../src/named";

const isNumber = (value: unknown): value is number => typeof value === "number";
let stored: Map<string, string>;

beforeEach(() => {
  stored = new Map();
  vi.stubGlobal("localStorage", {
    getItem: (key: string) => stored.get(key) ?? null,
    setItem: (key: string, value: string) => void stored.set(key, value),
  });
});

afterEach(() => vi.unstubAllGlobals());

test("what one tab keeps or drops leaves what another one kept meanwhile", () => {
  const [one, other] = [keptList("views", isNumber), keptList("views", isNumber)];
  one.keep("a", 1);
  other.keep("b", 2);
  one.keep("c", 3);
  other.drop("a");
  expect(JSON.parse(stored.get("millstream.views") ?? "")).toEqual([
    { name: "b", value: 2 },
    { name: "c", value: 3 },
  ]);
});
