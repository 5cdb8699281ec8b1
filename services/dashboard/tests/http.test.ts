import { afterEach, expect, test, vi } from "vitest";

import { getTimeline, serverNow } from "../src/calls";
import { clock } from "../src/live/clock";

afterEach(() => vi.unstubAllGlobals());

test("the server's time is that of its first answer, and is asked for where none has come", async () => {
  const server = Date.UTC(2026, 8, 21, 12);
  const asked: string[] = [];
  vi.stubGlobal("fetch", (path: string) => {
    asked.push(path);
    return Promise.resolve(Response.json({}, { headers: { Date: new Date(server).toUTCString() } }));
  });
  expect(clock.told()).toBeNull();
  const now = await serverNow();
  expect(now).toBeGreaterThanOrEqual(server);
  expect(now).toBeLessThan(server + 60_000);
  await getTimeline({ start: null, model: "", bucket: "auto" });
  await serverNow();
  expect(asked.map((path) => path.replace(/\?.*/, ""))).toEqual(["/v1/about", "/v1/statistics/timeline"]);
});
