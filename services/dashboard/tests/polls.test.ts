import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { ANSWER_MS, ASK_MS, KNOCK_MS, POLL_MS } from "../src/live/patience";
import { Polls } from "../src/live/polls";

/** How long the server takes for an answer. */
let answerMs: number;
let asked: number;
/** Questions that nobody has answered or given up. */
let open: number;
let mostOpen: number;
let told: string[];
let polls: Polls;

const pass = (milliseconds: number) => vi.advanceTimersByTimeAsync(milliseconds);

function ask(signal: AbortSignal): Promise<void> {
  asked += 1;
  open += 1;
  mostOpen = Math.max(mostOpen, open);
  return new Promise<void>((resolve, reject) => {
    setTimeout(resolve, answerMs);
    signal.addEventListener("abort", reject);
  }).finally(() => (open -= 1));
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(Math, "random").mockReturnValue(0.5); // What is spread comes after just its time.
  answerMs = 0;
  asked = open = mostOpen = 0;
  told = [];
  polls = new Polls(ask, (state) => told.push(state));
});

afterEach(() => {
  polls.stop();
  vi.useRealTimers();
  vi.restoreAllMocks();
});

test("a server that answers is asked again and again", async () => {
  polls.start(0);
  await pass(3 * POLL_MS);
  expect(told).toEqual(["polling", "polling", "polling"]);
});

test("an answer that is late is doubted, and good when it comes", async () => {
  answerMs = ANSWER_MS + 1_000;
  polls.start(0);
  await pass(ANSWER_MS);
  expect(told).toEqual(["offline"]);
  await pass(1_000);
  expect(told).toEqual(["offline", "polling"]);
});

test("a server that takes longer than the first poll waits is given more time and heard", async () => {
  answerMs = ASK_MS.least + 1_000;
  polls.start(0);
  await pass(ASK_MS.least + KNOCK_MS + answerMs);
  expect(told.at(-1)).toBe("polling");
  const before = asked;
  await pass(5 * (POLL_MS + answerMs));
  expect([asked, told.at(-1)]).toEqual([before + 5, "polling"]);
  expect(mostOpen).toBe(1);
});

test("a server that never answers is asked ever less often", async () => {
  answerMs = 100 * ASK_MS.most;
  polls.start(0);
  await pass(4 * ASK_MS.most);
  const before = asked;
  await pass(2 * (ASK_MS.most + KNOCK_MS));
  expect([asked, mostOpen]).toEqual([before + 2, 1]);
  expect(new Set(told)).toEqual(new Set(["offline"]));
});

test("a poll is given up when it is over, and tells nothing then", async () => {
  answerMs = ANSWER_MS - 1;
  polls.start(0);
  await pass(1);
  expect([asked, open]).toEqual([1, 1]);
  polls.stop();
  await pass(0);
  expect(open).toBe(0);
  polls.start(POLL_MS);
  polls.start(0); // It polls already.
  await pass(POLL_MS - 1);
  expect([asked, told]).toEqual([1, []]);
  await pass(1 + answerMs);
  expect([asked, told]).toEqual([2, ["polling"]]);
});
