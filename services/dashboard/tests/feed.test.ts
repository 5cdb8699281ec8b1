import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import type { BatchView } from "../src/contract";
import { ServerClock } from "../src/live/clock";
import { Feed } from "../src/live/feed";
import {
  ANSWER_MS,
  BUSY_MS,
  GRACE_MS,
  KNOCK_MS,
  LOOK_MS,
  POLL_MS,
  SILENCE_MS,
  SPREAD_MS,
} from "../src/live/patience";
import { BatchStore } from "../src/live/store";
import { batch } from "./builders";
import { PlayedStream } from "./channel";

const A = "batch_1790000000_0000000a";
const CLOSED = 2;

/** A stream that breaks too; a `readyState` of 0 says that the browser connects again. */
class BreakingStream extends PlayedStream {
  fail(readyState: 0 | 2): void {
    this.readyState = readyState;
    this.dispatchEvent(new Event("error"));
  }
}

let streams: BreakingStream[];
/** The live batches of an answer; null: the request fails, undefined: it is never answered. */
let live: BatchView[] | null | undefined;
/** When the live batches were asked for. */
let polls: number[];
let known: Map<string, BatchView>;
let build: string | null;
let store: BatchStore;
let feed: Feed;

const last = (): BreakingStream => streams.at(-1) as BreakingStream;
const pass = (milliseconds: number) => vi.advanceTimersByTimeAsync(milliseconds);

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(Math, "random").mockReturnValue(0.5); // What is spread comes after just its time.
  polls = [];
  streams = [];
  live = [];
  build = "one";
  known = new Map();
  store = new BatchStore((flush) => queueMicrotask(flush));
  feed = new Feed(store, new ServerClock(), {
    openStream: () => {
      streams.push(new BreakingStream());
      return last();
    },
    fetchLive: () => {
      polls.push(Date.now());
      if (live === undefined) return new Promise(() => undefined);
      return live ? Promise.resolve({ batches: live, as_of: 100 }) : Promise.reject(new Error("away"));
    },
    fetchBatch: (id) => Promise.resolve(known.get(id) ?? null),
    fetchBuild: () => Promise.resolve(build),
  });
  feed.connect();
});

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

describe("the feed", () => {
  test("is live from the first message on", () => {
    expect(feed.connection().state).toBe("connecting");
    // A server that has just begun accepts the stream before it knows anything.
    last().dispatchEvent(new Event("open"));
    expect(feed.connection().state).toBe("connecting");
    last().say("all_batches", { batches: { [A]: batch({ id: A }) }, as_of: 1 });
    expect(feed.connection().state).toBe("live");
    expect(store.live()).toEqual([A]);
  });

  test("says reconnecting at once when the stream breaks, then polls", async () => {
    last().say("all_batches", { batches: {}, as_of: 1 });
    last().fail(0);
    expect(feed.connection().state).toBe("reconnecting");
    live = [batch({ id: A })];
    await pass(GRACE_MS);
    expect(feed.connection().state).toBe("polling");
    expect(store.live()).toEqual([A]);
    last().say("heartbeat", { as_of: 2 });
    expect(feed.connection().state).toBe("live");
  });

  test("asks which page the server gives whenever another one may answer", async () => {
    last().say("all_batches", { batches: {}, as_of: 1 });
    await pass(0);
    expect(feed.vitals().build).toBe("one");
    build = "two";
    last().fail(0);
    last().say("heartbeat", { as_of: 2 });
    await pass(0);
    expect(feed.vitals().build).toBe("two");
    build = null; // A server without a page says nothing of it.
    last().fail(0);
    await pass(GRACE_MS);
    expect(feed.vitals().build).toBe("two");
  });

  test("says waiting, not live, while the log is away", async () => {
    last().say("all_batches", { batches: {}, as_of: 1 });
    last().say("heartbeat", { as_of: 1, log_away: true });
    expect(feed.connection().state).toBe("waiting");
    last().say("heartbeat", { as_of: 1, log_away: false });
    expect(feed.connection().state).toBe("live");
  });

  test("says offline when polls fail too, and polling once they are answered", async () => {
    last().say("all_batches", { batches: {}, as_of: 1 });
    live = null;
    last().fail(0);
    await pass(GRACE_MS);
    expect(feed.connection().state).toBe("offline");
    live = [];
    await pass(POLL_MS);
    expect(feed.connection().state).toBe("polling");
  });

  test("opens a new stream, ever later, when the browser gave up", async () => {
    for (let attempt = 1; attempt <= 3; attempt += 1) {
      last().fail(CLOSED);
      expect(streams).toHaveLength(attempt);
      await pass(3_000);
      expect(streams).toHaveLength(attempt + 1);
    }
  });

  test("is back at most two seconds after an outage of ten", async () => {
    last().say("all_batches", { batches: {}, as_of: 1 });
    for (let away = 0; away < 10_000; away += 100) {
      if (last().readyState !== CLOSED) last().fail(CLOSED); // As after an answer of 502.
      await pass(100);
    }
    const before = streams.length;
    last().fail(CLOSED);
    await pass(2_000);
    expect(streams.length).toBeGreaterThan(before);
  });

  test("leaves the retry to a browser that goes on by itself", async () => {
    last().say("all_batches", { batches: {}, as_of: 1 });
    for (let away = 0; away < 20_000; away += 1_500) {
      last().fail(0);
      await pass(1_500);
    }
    expect(streams).toHaveLength(1);
  });

  test("tells of two seconds of silence, and of the same stream when it speaks on", async () => {
    live = undefined;
    last().say("all_batches", { batches: {}, as_of: 1 });
    await pass(SILENCE_MS - 1);
    expect(feed.connection().state).toBe("live");
    await pass(1);
    expect(feed.connection().state).toBe("reconnecting");
    await pass(SPREAD_MS + ANSWER_MS + 1);
    expect(feed.connection().state).toBe("offline");
    expect(streams).toHaveLength(1);
    last().say("heartbeat", { as_of: 1 });
    expect([feed.connection().state, feed.vitals().healed]).toEqual(["live", 1]);
  });

  test("opens another stream when the server answers but the old one stays silent", async () => {
    live = null;
    last().say("all_batches", { batches: {}, as_of: 1 });
    await pass(SILENCE_MS + SPREAD_MS);
    expect(feed.connection().state).toBe("offline");
    live = [];
    await pass(KNOCK_MS);
    expect([feed.connection().state, streams.length]).toEqual(["polling", 1]);
    await pass(POLL_MS);
    expect(streams).toHaveLength(2);
    last().say("all_batches", { batches: {}, as_of: 2 });
    expect(feed.connection().state).toBe("live");
  });

  test("gives a first message that is long on its way ever more time", async () => {
    await pass(180_000);
    const opened = streams.length;
    await pass(29_000);
    expect(streams.length).toBeLessThanOrEqual(opened + 1);
  });

  test("tells of no silence that is shorter, however the looks fall", async () => {
    for (let off = 0; off < LOOK_MS; off += 10) {
      last().say("heartbeat", { as_of: 1 });
      await pass(SILENCE_MS - 1);
      expect([off, feed.connection().state]).toEqual([off, "live"]);
      await pass(LOOK_MS + 1);
      expect([off, feed.connection().state]).toEqual([off, "reconnecting"]);
      last().say("heartbeat", { as_of: 1 });
      await pass(10);
    }
  });

  test("asks at no fixed moment after a silence, nor once it is over", async () => {
    last().say("all_batches", { batches: {}, as_of: 1 });
    let toldAt = 0;
    feed.onConnection(() => {
      if (feed.connection().state === "reconnecting") toldAt = Date.now();
    });
    for (const chance of [0.1, 0.25, 0.75]) {
      vi.mocked(Math.random).mockReturnValue(chance);
      polls = [];
      await pass(SILENCE_MS + LOOK_MS + SPREAD_MS);
      expect(polls).toEqual([toldAt + chance * SPREAD_MS]);
      last().say("heartbeat", { as_of: 1 });
    }
    vi.mocked(Math.random).mockReturnValue(0.75);
    polls = [];
    await pass(SILENCE_MS + LOOK_MS);
    last().say("heartbeat", { as_of: 1 });
    await pass(SPREAD_MS);
    expect(polls).toEqual([]);
  });

  test("waits as a server without room asks it to, but no longer", async () => {
    const turnAway = (): void => {
      last().dispatchEvent(new Event("open"));
      last().dispatchEvent(new MessageEvent("busy", { data: "{}" }));
      last().fail(0);
    };
    turnAway();
    await pass(BUSY_MS - 1);
    expect([feed.connection().state, streams.length]).toEqual(["polling", 1]);
    feed.wake();
    expect(streams).toHaveLength(1);
    turnAway(); // The browser has asked again by itself.
    await pass(BUSY_MS - 1);
    expect(streams).toHaveLength(1);
    await pass(BUSY_MS + 2 * LOOK_MS);
    expect(streams).toHaveLength(2);
  });

  test("counts how often the stream began, apart from where it went on", () => {
    last().say("all_batches", { batches: {}, as_of: 1 });
    last().fail(0);
    last().say("heartbeat", { as_of: 1 });
    expect(feed.vitals()).toMatchObject({ begun: 1, healed: 1 });
    last().fail(0);
    last().say("all_batches", { batches: {}, as_of: 2 });
    expect(feed.vitals()).toMatchObject({ begun: 2, healed: 2 });
  });

  test("takes its own sleep for no silence", async () => {
    last().say("all_batches", { batches: {}, as_of: 1 });
    const awake = performance.now.bind(performance);
    vi.spyOn(performance, "now").mockImplementation(() => awake() + 60_000);
    await pass(1_000);
    expect(feed.connection().state).toBe("live");
  });

  test("asks how a batch ended that a snapshot no longer lists", async () => {
    last().say("all_batches", { batches: { [A]: batch({ id: A }) }, as_of: 1 });
    known.set(A, batch({ id: A, sequence: 7, state: "completed" }));
    last().say("all_batches", { batches: {}, as_of: 9 }, "9-one");
    await pass(0);
    expect(store.get(A)?.state).toBe("completed");
    expect(store.live()).toEqual([]);
  });

  test("follows a log that began anew, and lets go what it does not know", async () => {
    const B = "batch_1790000000_0000000b";
    const old = { [A]: batch({ id: A, sequence: 900 }), [B]: batch({ id: B, sequence: 900 }) };
    last().say("all_batches", { batches: old, as_of: 900 }, "900-one");
    const next = batch({ id: B, sequence: 4, target: 44 });
    last().say("all_batches", { batches: { [B]: next }, as_of: 5 }, "5-two");
    await pass(0);
    expect(store.get(A)).toBeUndefined();
    expect(store.get(B)?.target).toBe(44);
  });

  test("believes a network loss only if the server does not answer", async () => {
    last().say("all_batches", { batches: {}, as_of: 1 });
    await feed.doubt();
    expect(feed.connection().state).toBe("live");
    live = null;
    await feed.doubt();
    expect(feed.connection().state).toBe("offline");
  });
});
