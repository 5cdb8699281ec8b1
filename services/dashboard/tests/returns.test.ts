import { afterEach, beforeEach, expect, test, vi } from "vitest";

import type { ConnectionState } from "../src/live/feed";
import { LASTING_MS, SPREAD_MS } from "../src/live/patience";
import { onReturn, type Extent } from "../src/live/returns";

type Step = ConnectionState | number | "begins";

/** What a line that goes through these states told, with times in milliseconds between them. */
function returnsOf(...steps: Step[]): Extent[] {
  let state: ConnectionState = "connecting";
  let begun = 0;
  let tell = (): void => undefined;
  const told: Extent[] = [];
  const line = {
    connection: () => ({ state, since: 0 }),
    vitals: () => ({ begun }),
    onConnection: (listener: () => void) => {
      tell = listener;
      return () => undefined;
    },
  };
  onReturn(line, (extent) => told.push(extent));
  for (const step of steps) {
    if (typeof step === "number") vi.advanceTimersByTime(step);
    else if (step === "begins") begun += 1;
    else {
      state = step;
      tell();
    }
  }
  vi.advanceTimersByTime(SPREAD_MS);
  return told;
}

beforeEach(() => void vi.useFakeTimers());

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

test("a page that connects for the first time asks nothing twice", () => {
  expect(returnsOf("connecting", "connecting", "begins", "live", "live")).toEqual([]);
});

test("a page asks for all after each lasting outage, also one that was there before it", () => {
  const lasts = LASTING_MS;
  expect(returnsOf("live", "reconnecting", "polling", lasts, "live", "live")).toEqual(["all"]);
  expect(returnsOf("connecting", "offline", "begins", "live", "waiting", lasts, "live")).toEqual([
    "all",
    "all",
  ]);
});

test("a page that was put away asks for all, however short that was", () => {
  expect(returnsOf("live", "connecting", "live")).toEqual(["all"]);
});

test("after a short break a page asks for what failed, but for all if the stream began anew", () => {
  expect(returnsOf("live", "reconnecting", LASTING_MS - 1, "live")).toEqual(["failed"]);
  expect(returnsOf("live", "reconnecting", "polling", "live")).toEqual(["failed"]);
  expect(returnsOf("live", "reconnecting", "begins", "live")).toEqual(["all"]);
});

test("pages that come back together do not all ask at the same moment", () => {
  vi.spyOn(Math, "random").mockReturnValue(0.5);
  const start = Date.now();
  const line = { state: "live" as ConnectionState, tell: (): void => undefined };
  const asked: number[] = [];
  onReturn(
    {
      connection: () => ({ state: line.state, since: 0 }),
      vitals: () => ({ begun: 1 }),
      onConnection: (listener) => {
        line.tell = listener;
        return () => undefined;
      },
    },
    () => asked.push(Date.now() - start),
  );
  for (line.state of ["live", "reconnecting", "live"] as const) line.tell();
  vi.advanceTimersByTime(SPREAD_MS);
  expect(asked).toEqual([SPREAD_MS / 2]);
});
