import { afterEach, beforeEach, expect, test, vi } from "vitest";

const MINUTE = 60_000;
let stored: Map<string, string>;

beforeEach(() => {
  stored = new Map();
  vi.stubGlobal("localStorage", {
    getItem: (key: string) => stored.get(key) ?? null,
    setItem: (key: string, value: string) => void stored.set(key, value),
  });
});

afterEach(() => {
  vi.unstubAllGlobals();
  vi.resetModules();
});

/** The page as it is after a load, and the server's time. */
async function load() {
  const { clock } = await import("../src/live/clock");
  return { ...(await import("../src/waits")), now: () => clock.now() };
}

test("a batch is waited for ten minutes, or until that is undone", async () => {
  const { waitMore, waitNoMore, waitedFor, now } = await load();
  waitMore("a", "no_progress");
  waitMore("b", "no_progress");
  expect([...waitedFor(now() + 9 * MINUTE).keys()]).toEqual(["a", "b"]);
  expect(waitedFor(now() + 10 * MINUTE).size).toBe(0);
  waitNoMore("a");
  expect([...waitedFor(now()).keys()]).toEqual(["b"]);
});

test("a page that is loaded anew waits on, and forgets what is over with the next wait", async () => {
  const before = await load();
  before.waitMore("a", "no_progress");
  const kept = stored.get("millstream.waits") ?? "";
  vi.resetModules();
  const after = await load();
  expect(after.waitedFor(after.now())).toEqual(before.waitedFor(after.now()));
  stored.set("millstream.waits", kept.replace(/"until":\d+/, '"until":1'));
  vi.resetModules();
  const late = await load();
  late.waitMore("b", "no_progress");
  expect(stored.get("millstream.waits")).not.toContain('"a"');
});

test.each([
  ["refused", () => { throw new Error("refused"); }],
  ["of another version", () => '[{"name":"a","value":1}]'],
])("where what is kept is %s the page waits by itself", async (_, getItem) => {
  vi.spyOn(console, "info").mockReturnValue();
  vi.stubGlobal("localStorage", { getItem, setItem: getItem });
  const { waitMore, waitedFor, now } = await load();
  expect(waitedFor(now()).size).toBe(0);
  waitMore("a", "no_progress");
  waitMore("b", "no_progress");
  expect([...waitedFor(now()).keys()]).toEqual(["a", "b"]);
});

test("a wait is for the rule that was seen", async () => {
  const { waitMore, waitedFor, now } = await load();
  waitMore("a", "no_sample");
  expect(waitedFor(now()).get("a")).toMatchObject({ rule: "no_sample" });
});
