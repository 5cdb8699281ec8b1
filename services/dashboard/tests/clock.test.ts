import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { ServerClock } from "../src/live/clock";
import { Lag } from "../src/live/lag";

const HOUR = 3_600_000;

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

test("a browser's clock an hour off leaves the server's time as it is", () => {
  const clock = new ServerClock();
  const server = Date.now() + HOUR;
  clock.observe(server);
  expect(clock.now()).toBeCloseTo(server, 3);
  vi.setSystemTime(Date.now() - 5 * HOUR); // Somebody sets it while the page is open.
  vi.advanceTimersByTime(1_000);
  expect(clock.now()).toBeCloseTo(server + 1_000, 3);
});

test("of several readings that which took the shortest way counts", () => {
  const clock = new ServerClock();
  const start = Date.now();
  for (const late of [40, 3, 900]) clock.observe(start - late);
  expect(clock.now()).toBeCloseTo(start - 3, 3);
});

test("nobody is told a time before the server has told one", () => {
  const clock = new ServerClock();
  expect(clock.told()).toBeNull();
  clock.observe(NaN);
  clock.guess(NaN);
  expect(clock.told()).toBeNull();
});

test("a time in whole seconds counts, the latest of them, until a better one has come", () => {
  const clock = new ServerClock();
  const server = Date.now() - HOUR;
  for (const late of [900, 200, 600]) clock.guess(server - late);
  expect(clock.told()).toBeCloseTo(server - 200, 3);
  clock.observe(server - 5_000);
  clock.guess(server);
  expect(clock.told()).toBeCloseTo(server - 5_000, 3);
});

test("what is shown as now is the server's second as soon as it has told any", () => {
  const clock = new ServerClock();
  const shown: number[] = [];
  clock.onSecond(() => shown.push(clock.second()));
  const server = Date.now() - HOUR;
  clock.guess(server);
  expect(shown).toEqual([Math.floor(server / 1000)]);
});

test("the lag is the middle one of the last readings, and never negative", () => {
  const lag = new Lag();
  expect(lag.typical()).toBeNull();
  for (const reading of [12, 4_000, 18, -3]) lag.note(reading);
  expect(lag.typical()).toBe(18);
  for (let more = 0; more < 32; more += 1) lag.note(-5);
  expect(lag.typical()).toBe(0);
  lag.forget();
  expect(lag.typical()).toBeNull();
});
