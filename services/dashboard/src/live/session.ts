/** The parts that live as long as the page: store, clock, connection and query cache. */

import { QueryClient } from "@tanstack/react-query";

import { getBatch, listBatches } from "../calls";
import { LIVE_STATES } from "../contract";
import { Problem } from "../http";
import { watchEnds } from "./ends";
import { ServerClock } from "./clock";
import { Feed } from "./feed";
import { atNextFrame, BatchStore } from "./store";

const RETRIES = 3;

export const store = new BatchStore(atNextFrame);
export const clock = new ServerClock();
export const feed = new Feed(store, clock, {
  openStream: () => new EventSource("/v1/stream"),
  fetchLive: () => listBatches({ states: LIVE_STATES, limit: 1000 }),
  fetchBatch: (id, minSequence) =>
    getBatch(id, minSequence).then(
      (answer) => answer.batch,
      (error: unknown) => {
        if (error instanceof Problem && error.status === 404) return null;
        throw error;
      },
    ),
});

export const queries = new QueryClient({
  defaultOptions: {
    queries: {
      // A browser without a network still reaches a server on its own machine.
      networkMode: "always",
      staleTime: 2_000,
      retry: (count, error) =>
        count < RETRIES && error instanceof Problem && (error.status === 503 || error.status === 0),
      retryDelay: (count) => 500 * 2 ** count,
    },
    mutations: { networkMode: "always" },
  },
});

/** Connect, and keep the connection honest when the page sleeps or the network goes. */
export function startSession(): void {
  watchEnds(store, clock, queries);
  let wasAway = false;
  feed.onConnection(() => {
    const isLive = feed.connection().state === "live";
    // Answers fetched while the server was away are old or missing.
    if (isLive && wasAway) void queries.invalidateQueries();
    wasAway = !isLive;
  });
  feed.connect();
  window.addEventListener("offline", () => void feed.doubt());
  window.addEventListener("online", feed.connect);
  window.addEventListener("pageshow", (event) => event.persisted && feed.connect());
  document.addEventListener("visibilitychange", () => !document.hidden && feed.wake());
}
