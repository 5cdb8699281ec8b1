/**
 * One connection for all tabs of a browser. It keeps what a new tab needs to know, and hands to
 * each tab what has changed since that tab last took something: a slow or sleeping tab gets the
 * latest of each batch, and nothing piles up for it.
 */

import type { BatchView } from "../contract";
import type { Limited } from "../limited";
import type { ServerClock } from "./clock";
import { Feed, type Connection, type FeedSources, type Vitals } from "./feed";
import { BatchStore } from "./store";

/** What a tab says: it came or came back, it took what it was handed, it woke up, it leaves. */
export type Word = "join" | "taken" | "wake" | "leave";

/** What a tab is handed. */
export interface Handout {
  connection: Connection;
  vitals: Vitals;
  /** The server's time now, in milliseconds since 1970; null while it has told none. */
  now: number | null;
  /** This tab was the last one in front: of all tabs it makes the sounds. */
  leads: boolean;
  /** These are all that is known: what lives and is not among them has ended or is gone. */
  isWhole: boolean;
  batches: BatchView[];
  /** What lets which batches wait, if that has changed since the last handout. */
  limited: Limited | undefined;
}

/** The parts of a MessagePort that the sharing uses. */
export interface Port {
  onmessage: ((event: MessageEvent<Word>) => void) | null;
  postMessage(handout: Handout): void;
  addEventListener(name: "close", listener: () => void): void;
}

/** A tab hears something at least this often, so that it notices a connection that died. */
export const BEAT_MS = 10_000;

/** So many handouts may be on their way to a tab that is drawing: a new one waits for no answer. */
export const UNDERWAY_MOST = 3;

/**
 * A tab that took its time for a handout gets the next one so many times later, with more in it: to
 * draw often is what keeps a slow machine from taking anything. A quick one is soon forgotten.
 */
const REST_SHARE = 3;
export const REST_MOST_MS = 33;
const SLOWNESS_KEPT = 0.8;

/** A tab that took nothing while so many batches changed is handed all that is known instead. */
export const WAITING_MOST = 500;

interface Tab {
  port: Port;
  waiting: Map<string, BatchView>;
  isWhole: boolean;
  hasNews: boolean;
  limited: Limited | undefined;
  /** When the handouts that it has not taken yet went out. */
  underway: number[];
  /** How long handouts lately waited to be taken, in milliseconds. */
  slowness: number;
  /** Runs until the next handout may go out. */
  rest: ReturnType<typeof setTimeout> | undefined;
}

export class Sharing {
  readonly #clock: ServerClock;
  // What one read of the network brought goes out together.
  readonly #store = new BatchStore((flush) => setTimeout(flush, 0));
  readonly #tabs = new Map<Port, Tab>();
  #isTelling = false;
  readonly feed: Feed;

  constructor(clock: ServerClock, sources: FeedSources) {
    this.#clock = clock;
    this.feed = this.#makeFeed(sources);
    this.#store.onChange((_, next) => {
      for (const tab of this.#tabs.values()) keepFor(tab, next);
      this.#tellAll();
    });
    this.feed.onConnection(this.#tellAll);
    setInterval(this.#tellAll, BEAT_MS);
  }

  /** Take up a tab's end of a channel; the tab counts from the moment when it says so. */
  welcome(port: Port): void {
    port.onmessage = ({ data }) => this.#hear(port, data);
    // Newer browsers tell of a tab that crashed; the others leave a port that takes nothing.
    port.addEventListener("close", () => this.#leave(port));
  }

  #makeFeed(sources: FeedSources): Feed {
    const store = this.#store;
    return new Feed(
      {
        push: (batch) => store.push(batch),
        snapshot: (batches, asOf) => store.snapshot(batches, asOf),
        limit: (limited) => {
          store.limit(limited);
          this.#tellAll();
        },
        forgetSequences: () => {
          store.forgetSequences();
          this.#tellAllAnew();
        },
        drop: (id) => {
          store.drop(id);
          this.#tellAllAnew();
        },
      },
      this.#clock,
      sources,
    );
  }

  #hear(port: Port, word: Word): void {
    switch (word) {
      case "join":
        this.#tabs.delete(port);
        this.#tabs.set(port, newTab(port));
        return this.#tellAll(); // The others show how many there are.
      case "taken": {
        const tab = this.#tabs.get(port);
        if (tab) {
          const now = performance.now();
          const took = now - (tab.underway.shift() ?? now); // It may be of a time before it left.
          tab.slowness = Math.max(took, tab.slowness * SLOWNESS_KEPT);
          this.#serve(tab);
        }
        return;
      }
      case "wake": {
        const tab = this.#tabs.get(port);
        if (tab) {
          this.#tabs.delete(port);
          this.#tabs.set(port, tab); // The last one leads.
          this.#tellAll();
        }
        return this.feed.wake();
      }
      case "leave":
        return this.#leave(port);
    }
  }

  #leave(port: Port): void {
    if (this.#tabs.delete(port)) this.#tellAll();
  }

  #tellAllAnew(): void {
    for (const tab of this.#tabs.values()) tab.isWhole = true;
    this.#tellAll();
  }

  // At the end of what is under way, so that a state and the batches that came with it are one.
  #tellAll = (): void => {
    if (this.#isTelling) return;
    this.#isTelling = true;
    queueMicrotask(() => {
      this.#isTelling = false;
      for (const tab of this.#tabs.values()) {
        tab.hasNews = true;
        this.#serve(tab);
      }
    });
  };

  #serve(tab: Tab): void {
    const isReady = tab.rest === undefined && tab.underway.length < UNDERWAY_MOST;
    if (!tab.hasNews || !isReady || this.#tabs.get(tab.port) !== tab) return;
    this.#hand(tab);
    const rest = Math.min(REST_MOST_MS, REST_SHARE * tab.slowness);
    if (rest < 1) return;
    tab.rest = setTimeout(() => {
      tab.rest = undefined;
      this.#serve(tab);
    }, rest);
  }

  #hand(tab: Tab): void {
    const batches = tab.isWhole ? this.#all() : [...tab.waiting.values()];
    const { isWhole } = tab;
    const limited = this.#store.limited();
    const isNew = limited !== tab.limited;
    tab.underway.push(performance.now());
    Object.assign(tab, { isWhole: false, hasNews: false, limited });
    tab.waiting.clear();
    tab.port.postMessage({
      connection: this.feed.connection(),
      vitals: { ...this.feed.vitals(), tabs: this.#tabs.size },
      now: this.#clock.told(),
      leads: [...this.#tabs.values()].at(-1) === tab,
      isWhole,
      batches,
      limited: isNew ? limited : undefined,
    });
  }

  #all(): BatchView[] {
    return this.#store
      .recent()
      .map((id) => this.#store.get(id))
      .filter((batch) => batch !== undefined);
  }
}

function newTab(port: Port): Tab {
  return {
    port,
    waiting: new Map(),
    isWhole: true,
    hasNews: true,
    limited: undefined,
    underway: [],
    slowness: 0,
    rest: undefined,
  };
}

/** A tab that crashed unheard takes nothing any more: what is kept for it must not grow for ever. */
function keepFor(tab: Tab, batch: BatchView): void {
  if (tab.isWhole) return;
  tab.waiting.set(batch.id, batch);
  if (tab.waiting.size <= WAITING_MOST) return;
  tab.waiting.clear();
  tab.isWhole = true;
}
