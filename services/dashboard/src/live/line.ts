/**
 * A tab's line to the server: over the one connection that all tabs of the browser share, or over
 * one of its own where the browser has no shared workers, refuses them, or lost this one.
 */

import type { ServerClock } from "./clock";
import { Feed, NO_VITALS, type Connection, type FeedSources, type Vitals } from "./feed";
import { BEAT_MS, type Handout, type Word } from "./sharing";
import type { BatchStore } from "./store";

/** The parts of a shared worker's port that a line uses. */
export interface FarPort {
  onmessage: ((event: MessageEvent<Handout>) => void) | null;
  postMessage(word: Word): void;
  close(): void;
}

/** Opens the far port; calls `onLost` when the worker can't be had. */
export type OpenShared = (onLost: () => void) => FarPort;

/** So long without a word, and then without an answer, the shared connection is given up. */
export const QUIET_MS = 3 * BEAT_MS;
export const ANSWER_MS = 3_000;
const EXPECTED_GAP_MS = 1_000;
/** So long after that it is asked for again. */
export const AGAIN_MS = 60_000;

export class Line {
  readonly #store: BatchStore;
  readonly #clock: ServerClock;
  readonly #sources: FeedSources;
  readonly #openShared: OpenShared;
  readonly #listeners = new Set<() => void>();
  #connection: Connection;
  #vitals = NO_VITALS;
  #port: FarPort | undefined;
  #watchdog: ReturnType<typeof setTimeout> | undefined;
  /** When the next word was last given its time. */
  #expectedAt = -Infinity;
  #own: Feed | undefined;
  #isAway = false;
  #hasHeard = false;
  #leads = true;

  constructor(store: BatchStore, clock: ServerClock, sources: FeedSources, openShared: OpenShared) {
    this.#store = store;
    this.#clock = clock;
    this.#sources = sources;
    this.#openShared = openShared;
    this.#connection = { state: "connecting", since: clock.told() };
  }

  connection = (): Connection => this.#own?.connection() ?? this.#connection;

  vitals = (): Vitals => this.#own?.vitals() ?? this.#vitals;

  /** The stream or a poll has told what runs, now or before. */
  hasHeard = (): boolean => this.#hasHeard;

  /** Of all tabs of this browser this one makes the sounds. */
  leads = (): boolean => this.#own !== undefined || this.#leads;

  /** Call `listener` when anything that is told of the connection may have changed. */
  onConnection = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Connect: over the shared connection if it can be had. */
  start(): void {
    this.#askShared();
  }

  /** The tab comes, or comes back from where nothing reached it. */
  join = (): void => {
    this.#isAway = false;
    if (this.#own) return this.#own.connect();
    this.#port?.postMessage("join");
    this.#expect(ANSWER_MS, this.#useOwn);
  };

  /** Nothing reaches the tab from now on: it is put away or ends. */
  leave = (): void => {
    if (this.#own) return;
    this.#isAway = true;
    clearTimeout(this.#watchdog);
    this.#port?.postMessage("leave");
    this.#connection = { state: "connecting", since: this.#clock.told() };
    this.#tell();
  };

  /** The tab was hidden or asleep: make sure that the connection lives. */
  wake = (): void => {
    if (this.#own) this.#own.wake();
    else this.#port?.postMessage("wake");
  };

  /** The machine says that its network came back; a shared connection hears that itself. */
  online = (): void => this.#own?.connect();

  offline = (): void => void this.#own?.doubt();

  #take({ connection, vitals, now, leads, isWhole, batches, limited }: Handout): void {
    if (this.#isAway) return;
    this.#port?.postMessage("taken");
    if (this.#own) {
      if (connection.state !== "live") return; // The own one may be better than that.
      this.#dropOwn(this.#own);
      if (!isWhole) return this.join(); // What was handed before was not taken in.
    }
    this.#expectMore();
    if (now !== null) this.#clock.observe(now);
    const { epoch } = this.#vitals;
    this.#vitals = vitals;
    this.#leads = leads;
    if (epoch !== undefined && epoch !== vitals.epoch) this.#store.forgetSequences();
    if (isWhole) {
      for (const gone of this.#store.snapshot(batches, vitals.sequence)) this.#store.drop(gone.id);
    } else {
      for (const batch of batches) this.#store.push(batch);
    }
    if (limited) this.#store.limit(limited);
    this.#connect(connection);
    this.#clock.freeze(connection.state === "offline");
    this.#tell();
  }

  // Each handout has its own copy of the same: React would draw all anew that shows any of it.
  #connect(connection: Connection): void {
    const { state, since } = this.#connection;
    if (connection.state !== state || connection.since !== since) this.#connection = connection;
  }

  // Not at each of many handouts: to set a timer costs more than to take one of them in.
  #expectMore(): void {
    const now = Date.now();
    if (now - this.#expectedAt < EXPECTED_GAP_MS) return;
    this.#expect(QUIET_MS, this.join);
    this.#expectedAt = now;
  }

  #expect(milliseconds: number, otherwise: () => void): void {
    this.#expectedAt = -Infinity;
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(otherwise, milliseconds);
  }

  #askShared = (): void => {
    try {
      const port = this.#openShared(() => {
        if (port === this.#port) this.#useOwn();
      });
      port.onmessage = ({ data }) => {
        if (port === this.#port) this.#take(data);
      };
      this.#port = port;
    } catch (error) {
      console.info("This browser shares no connection between tabs.", error);
      return this.#useOwn();
    }
    this.#port.postMessage("join");
    this.#expect(ANSWER_MS, this.#useOwn);
  };

  #useOwn = (): void => {
    clearTimeout(this.#watchdog);
    if (this.#port) {
      this.#port.postMessage("leave"); // It may live, and would keep all changes for this tab.
      this.#port.close();
      this.#port = undefined;
      this.#expect(AGAIN_MS, this.#askShared);
    }
    if (this.#own) return;
    this.#own = new Feed(this.#store, this.#clock, this.#sources);
    this.#own.onConnection(this.#tell);
    this.#own.connect();
    this.#tell();
  };

  #dropOwn(own: Feed): void {
    this.#vitals = own.vitals();
    this.#connection = own.connection();
    this.#own = undefined;
    own.end();
  }

  #tell = (): void => {
    this.#hasHeard ||= this.vitals().heardAt !== null || this.connection().state === "polling";
    for (const listener of [...this.#listeners]) listener();
  };
}

/** The worker that all tabs of this browser share, in a file of its own as the page's policy asks. */
export const openSharedWorker: OpenShared = (onLost) => {
  const worker = new SharedWorker(new URL("./worker.ts", import.meta.url), {
    type: "module",
    name: "millstream",
  });
  worker.onerror = onLost;
  return worker.port;
};
