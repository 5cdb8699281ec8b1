import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import type { BatchView } from "../src/contract";
import { ServerClock } from "../src/live/clock";
import type { FeedSources } from "../src/live/feed";
import { AGAIN_MS, ANSWER_MS, Line, QUIET_MS } from "../src/live/line";
import { REST_MOST_MS, Sharing, UNDERWAY_MOST, WAITING_MOST } from "../src/live/sharing";
import { BatchStore } from "../src/live/store";
import { batch } from "./builders";
import { Channel, PlayedStream } from "./channel";

const A = "batch_1790000000_0000000a";
const B = "batch_1790000000_0000000b";
const HEARTBEAT_MS = 1_000;
const HOUR_MS = 3_600_000;

/** Each time that it opens the shared connection it gets a channel of its own. */
class Tab {
  channel = new Channel();
  isDeaf = false;
  opened = 0;
  readonly store = new BatchStore((flush) => queueMicrotask(flush));
  readonly clock = new ServerClock();
  readonly line = new Line(this.store, this.clock, sources, () => {
    this.opened += 1;
    if (this.opened > 1) this.channel = new Channel();
    this.channel.isAsleep ||= this.isDeaf;
    sharing.welcome(this.channel.far);
    return this.channel.near;
  });
}

let streams: PlayedStream[];
let sources: FeedSources;
let sharing: Sharing;
let known: Map<string, BatchView>;

const stream = (): PlayedStream => streams.at(-1) as PlayedStream;
const pass = (milliseconds = 1) => vi.advanceTimersByTimeAsync(milliseconds);
const update = (change: Partial<BatchView>, id: string): void =>
  stream().say("batch_update", { batch: batch(change) }, id);

/** Let time pass in which these streams, and no others, are heard of. */
async function passLively(milliseconds: number, ...lively: PlayedStream[]): Promise<void> {
  for (let left = milliseconds; left > 0; left -= HEARTBEAT_MS) {
    for (const one of lively) one.say("heartbeat", {});
    await pass(Math.min(left, HEARTBEAT_MS));
  }
}

async function open(): Promise<Tab> {
  const tab = new Tab();
  tab.line.start();
  await pass();
  return tab;
}

beforeEach(() => {
  vi.useFakeTimers();
  streams = [];
  known = new Map();
  sources = {
    openStream: () => {
      streams.push(new PlayedStream());
      return stream();
    },
    fetchLive: () => Promise.reject(new Error("away")),
    fetchBatch: (id) => Promise.resolve(known.get(id) ?? null),
    fetchBuild: () => Promise.resolve("one"),
  };
  sharing = new Sharing(new ServerClock(), sources);
  sharing.feed.connect();
});

afterEach(() => vi.useRealTimers());

describe("the shared connection", () => {
  test("is one for all tabs, and each is whole from its first handout on", async () => {
    const first = await open();
    stream().say("all_batches", { batches: { [A]: batch({ id: A, sequence: 5 }) }, as_of: 5 }, "5-one");
    await pass();
    const second = await open();
    expect(streams).toHaveLength(1);
    for (const { store, line } of [first, second]) {
      expect(store.live()).toEqual([A]);
      expect(line.connection().state).toBe("live");
      expect(line.vitals()).toMatchObject({ sequence: 5, tabs: 2, healed: 0 });
    }
    const before = second.line.connection();
    update({ id: A, sequence: 6, target: 66 }, "6-one");
    await pass();
    for (const { store } of [first, second]) expect(store.get(A)?.target).toBe(66);
    expect(second.line.connection()).toBe(before);
  });

  test("hands a sleeping tab a few things, and the latest of each batch once it wakes", async () => {
    const tab = await open();
    stream().say("all_batches", { batches: {}, as_of: 1 });
    await pass();
    tab.channel.isAsleep = true;
    const before = tab.channel.handed;
    for (let sequence = 2; sequence < 100; sequence += 1) {
      update({ id: A, sequence }, `${sequence}-one`);
      await pass();
    }
    expect(tab.channel.handed).toBe(before + UNDERWAY_MOST);
    tab.channel.isAsleep = false;
    tab.channel.deliver();
    await pass(REST_MOST_MS);
    expect(tab.store.get(A)?.sequence).toBe(99);
    expect(tab.line.vitals().sequence).toBe(99);
  });

  test("keeps no more for a tab that takes nothing than what makes it whole again", async () => {
    const tab = await open();
    stream().say("all_batches", { batches: {}, as_of: 1 });
    await pass();
    tab.channel.isAsleep = true;
    const ids = Array.from({ length: WAITING_MOST + 2 }, (_, place) => `batch_1790000000_${place}`);
    for (const [place, id] of ids.entries()) update({ id, sequence: place + 2 }, `${place + 2}-one`);
    await pass();
    tab.channel.isAsleep = false;
    tab.channel.deliver();
    await pass();
    expect(tab.channel.whole).toEqual([true, false, false, true]);
    expect(tab.store.live().length).toBe(ids.length);
  });

  test("hands a tab that takes its time more at once, and a quick one each thing again", async () => {
    const tab = await open();
    stream().say("all_batches", { batches: {}, as_of: 1 });
    await pass();
    let sequence = 1;
    const handedIn = async (milliseconds: number): Promise<number> => {
      const before = tab.channel.handed;
      for (const end = Date.now() + milliseconds; Date.now() < end; await pass(5)) {
        sequence += 1;
        update({ id: A, sequence }, `${sequence}-one`);
      }
      return tab.channel.handed - before;
    };
    expect(await handedIn(100)).toBe(20);
    tab.channel.isAsleep = true;
    await handedIn(20);
    tab.channel.isAsleep = false;
    tab.channel.deliver();
    expect(await handedIn(100)).toBeLessThan(10);
    await handedIn(1_000);
    expect(await handedIn(100)).toBe(20);
    expect(tab.store.get(A)?.sequence).toBe(sequence);
  });

  test("forgets a tab that leaves or crashes", async () => {
    const [first, second, third] = [await open(), await open(), await open()];
    stream().say("all_batches", { batches: {}, as_of: 1 });
    second.line.leave();
    third.channel.crash();
    await pass();
    expect(first.line.vitals().tabs).toBe(1);
    const handed = second.channel.handed;
    update({ id: A, sequence: 7 }, "7-one");
    await pass();
    expect(second.channel.handed).toBe(handed);
    expect(second.line.connection().state).toBe("connecting");
    second.line.join();
    await pass();
    expect(second.store.get(A)?.sequence).toBe(7);
    expect(second.line.connection().state).toBe("live");
  });

  test("lets every tab drop what the server does not know, and follow a new log", async () => {
    const tab = await open();
    const old = { [A]: batch({ id: A, sequence: 900 }), [B]: batch({ id: B, sequence: 900 }) };
    stream().say("all_batches", { batches: old, as_of: 900 }, "900-one");
    await pass();
    const next = batch({ id: B, sequence: 4, target: 44 });
    stream().say("all_batches", { batches: { [B]: next }, as_of: 5 }, "5-two");
    await pass();
    expect(tab.store.get(A)).toBeUndefined();
    expect(tab.store.get(B)?.target).toBe(44);
  });

  test("lets the tab make the sounds that was the last one in front", async () => {
    const [first, second] = [await open(), await open()];
    expect([first.line.leads(), second.line.leads()]).toEqual([false, true]);
    first.line.wake();
    await pass();
    expect([first.line.leads(), second.line.leads()]).toEqual([true, false]);
    first.line.leave();
    await pass();
    expect(second.line.leads()).toBe(true);
  });

  test("tells no time before the server has, so that a browser's clock an hour ahead does no harm", async () => {
    const tab = await open();
    expect(tab.clock.told()).toBeNull();
    expect(tab.line.connection()).toEqual({ state: "connecting", since: null });
    const server = Date.now() - HOUR_MS;
    stream().say("all_batches", { batches: {}, as_of: 1, server_time: new Date(server).toISOString() });
    await pass(2);
    expect(tab.clock.told()).toBeCloseTo(server + 2, 0);
    expect(tab.line.connection().since).toBeCloseTo(server, 0);
  });

  test("counts a break that was healed once", async () => {
    const tab = await open();
    stream().say("all_batches", { batches: {}, as_of: 1 });
    for (let errors = 0; errors < 3; errors += 1) stream().dispatchEvent(new Event("error"));
    await pass();
    expect(tab.line.connection().state).toBe("reconnecting");
    stream().say("heartbeat", { as_of: 1 });
    stream().say("heartbeat", { as_of: 1 });
    await pass();
    expect(tab.line.connection().state).toBe("live");
    expect(tab.line.vitals().healed).toBe(1);
  });
});

describe("a tab's line", () => {
  test("is its own where the browser shares none", () => {
    const store = new BatchStore((flush) => queueMicrotask(flush));
    const line = new Line(store, new ServerClock(), sources, () => {
      throw new DOMException("Access is denied.", "SecurityError");
    });
    line.start();
    expect(streams).toHaveLength(2);
    stream().say("all_batches", { batches: { [A]: batch({ id: A }) }, as_of: 1 });
    expect(line.connection().state).toBe("live");
    expect(store.live()).toEqual([A]);
  });

  test("becomes its own when the shared one does not answer, or dies later", async () => {
    const tab = new Tab();
    tab.channel.isAsleep = true;
    tab.line.start();
    await pass(ANSWER_MS);
    expect(streams).toHaveLength(2);
    const other = await open();
    other.channel.isAsleep = true;
    await pass(QUIET_MS + ANSWER_MS);
    expect(streams.length).toBeGreaterThanOrEqual(3);
    stream().say("all_batches", { batches: {}, as_of: 1 });
    expect(other.line.connection().state).toBe("live");
  });

  test("has heard what runs also where one of its own then hears nothing", async () => {
    const tab = await open();
    expect(tab.line.hasHeard()).toBe(false);
    stream().say("all_batches", { batches: {}, as_of: 1 });
    await pass();
    tab.channel.isAsleep = true;
    await pass(QUIET_MS + ANSWER_MS);
    expect([tab.line.vitals().heardAt, tab.line.hasHeard()]).toEqual([null, true]);
  });

  test("is shared again once the worker answers, and holds no stream of its own then", async () => {
    const other = await open();
    const tab = new Tab();
    tab.isDeaf = true;
    tab.channel.isAsleep = true;
    tab.line.start();
    await pass(ANSWER_MS);
    const own = stream();
    own.say("all_batches", { batches: { [A]: batch({ id: A, sequence: 5 }) }, as_of: 5 }, "5-one");
    expect(other.line.vitals().tabs).toBe(1); // It has said that it left.
    const shared = streams[0] as PlayedStream;
    await passLively(AGAIN_MS + ANSWER_MS, own, shared);
    expect(tab.opened).toBe(2);
    expect([own.readyState, tab.line.connection().state]).toEqual([1, "live"]);
    tab.isDeaf = false;
    const known = { [A]: batch({ id: A, sequence: 6 }) };
    shared.say("all_batches", { batches: known, as_of: 6 }, "6-one");
    await passLively(AGAIN_MS, own, shared);
    expect(tab.opened).toBe(3);
    expect([own.readyState, tab.line.connection().state]).toEqual([2, "live"]);
    expect(tab.line.vitals().tabs).toBe(2);
    shared.say("batch_update", { batch: batch({ id: A, sequence: 7, target: 77 }) }, "7-one");
    await passLively(QUIET_MS + ANSWER_MS, shared);
    expect(tab.store.get(A)?.target).toBe(77);
    expect([streams.length, tab.channel.isOpen]).toEqual([2, true]);
  });

  test("stays its own while the shared one is not live", async () => {
    const tab = new Tab();
    tab.channel.isAsleep = true;
    tab.line.start();
    await pass(ANSWER_MS);
    const own = stream();
    await passLively(2 * AGAIN_MS + 2 * ANSWER_MS, own);
    expect(tab.opened).toBe(3);
    expect([own.readyState, tab.line.connection().state]).toEqual([1, "live"]);
  });

  test("stays shared through any silence of the server", async () => {
    const tab = await open();
    await pass(10 * QUIET_MS);
    expect(tab.channel.isOpen).toBe(true);
    expect(tab.line.connection().state).toBe("offline");
  });
});
