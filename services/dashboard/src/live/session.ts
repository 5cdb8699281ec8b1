/** The parts that live as long as the page: store, clock, connection and query cache. */

import { QueryClient, type Query } from "@tanstack/react-query";

import { Problem } from "../http";
import { watchEnds } from "./ends";
import { clock } from "./clock";
import { Lag } from "./lag";
import { Line, openSharedWorker } from "./line";
import { onReturn } from "./returns";
import { sources } from "./sources";
import { atOnce, inTurn } from "./schedule";
import { BatchStore } from "./store";

export { clock };

const RETRIES = 3;

export const store = new BatchStore(atOnce, inTurn);
export const line = new Line(store, clock, sources, openSharedWorker);
export const lag = new Lag();

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
  watchEnds(store, queries, line.leads);
  store.onChange((previous, next) => {
    const at = Date.parse(next.last_progress_at ?? "");
    const isNew = previous !== undefined && next.last_progress_at !== previous.last_progress_at;
    // What came about before the connection was live had to wait for it.
    if (isNew && at >= (line.connection().since ?? Infinity)) lag.note(clock.now() - at);
  });
  onReturn(line, (extent) => {
    const hasFailed = ({ state }: Query): boolean => state.status === "error";
    void queries.invalidateQueries(extent === "all" ? {} : { predicate: hasFailed });
  });
  line.onConnection(() => {
    if (line.connection().state !== "live") lag.forget();
  });
  line.start();
  window.addEventListener("offline", line.offline);
  window.addEventListener("online", line.online);
  window.addEventListener("pagehide", line.leave);
  window.addEventListener("pageshow", (event) => event.persisted && line.join());
  document.addEventListener("freeze", line.leave);
  document.addEventListener("resume", line.join);
  document.addEventListener("visibilitychange", () => !document.hidden && line.wake());
}
