import { expect, test } from "vitest";

import type { ConnectionState } from "../src/live/feed";
import { onReturn } from "../src/live/returns";

/** How often a line that goes through these states was told to be back. */
function returnsOf(...states: ConnectionState[]): number {
  let state: ConnectionState = "connecting";
  let tell = (): void => undefined;
  let count = 0;
  const line = {
    connection: () => ({ state, since: 0 }),
    onConnection: (listener: () => void) => {
      tell = listener;
      return () => undefined;
    },
  };
  onReturn(line, () => (count += 1));
  for (state of states) tell();
  return count;
}

test("a page that connects for the first time asks nothing twice", () => {
  expect(returnsOf("connecting", "connecting", "live", "live")).toBe(0);
});

test("a page asks again after each outage, also one that was there before it", () => {
  expect(returnsOf("live", "reconnecting", "polling", "live", "live")).toBe(1);
  expect(returnsOf("live", "connecting", "live")).toBe(1);
  expect(returnsOf("connecting", "offline", "live", "waiting", "live")).toBe(2);
});
