import { expect, test, vi } from "vitest";

import { limitWords } from "../src/limited";
import { ServerClock } from "../src/live/clock";
import type { FeedSources } from "../src/live/feed";
import { Line } from "../src/live/line";
import { Sharing } from "../src/live/sharing";
import { BatchStore } from "../src/live/store";
import { Channel, PlayedStream } from "./channel";

const A = "batch_1790000000_0000000a";
const LIMIT = { message: "its route's limit: 60 requests a minute", next_at: null };

test("a limit is told calmly, and how long it is until the next call if that is long", () => {
  const at = Date.parse;
  expect(limitWords(LIMIT, 0)).toBe("waits for its route's limit: 60 requests a minute");
  const later = { ...LIMIT, next_at: "2026-09-21T12:00:20Z" };
  expect(limitWords(later, at("2026-09-21T12:00:08Z"))).toMatch(/; next call in 12 s$/);
  expect(limitWords(later, at("2026-09-21T12:00:21Z"))).toBe(limitWords(LIMIT, 0));
});

test("every tab is told what limits batches, as it changes, until nobody says so any more", async () => {
  const stream = new PlayedStream();
  const sources: FeedSources = {
    openStream: () => stream,
    fetchLive: () => new Promise(() => undefined),
    fetchBatch: () => Promise.resolve(null),
    fetchBuild: () => Promise.resolve(null),
  };
  const sharing = new Sharing(new ServerClock(), sources);
  const open = (): BatchStore => {
    const store = new BatchStore((flush) => queueMicrotask(flush));
    const channel = new Channel();
    sharing.welcome(channel.far);
    new Line(store, new ServerClock(), sources, () => channel.near).start();
    return store;
  };
  const told = (store: BatchStore, limited: object) =>
    vi.waitFor(() => expect(store.limited()).toEqual(limited), { interval: 1 });
  sharing.feed.connect();
  const first = open();
  let drawn = 0;
  first.onRow(A, () => (drawn += 1));
  stream.say("limited", { batches: { [A]: LIMIT } });
  await told(first, { [A]: LIMIT });
  await told(open(), { [A]: LIMIT }); // It came later.
  expect(drawn).toBe(1);
  const alike = { ...LIMIT, waiting: 7 };
  stream.say("limited", { batches: { [A]: alike } });
  await told(first, { [A]: alike });
  expect(drawn).toBe(1); // It reads as before.
  stream.dispatchEvent(new Event("error"));
  await told(first, {});
  expect(drawn).toBe(2);
  sharing.feed.end();
});
