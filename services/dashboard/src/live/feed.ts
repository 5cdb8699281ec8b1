/**
 * The connection to the server: the stream first, polling while it is down, and a state that
 * tells which of the two the page lives on.
 */

import type { AllBatches, BatchPage, BatchUpdate, BatchView, Heartbeat } from "../contract";
import type { Limited } from "../limited";
import type { ServerClock } from "./clock";
import {
  BUSY_MS,
  GRACE_MS,
  LOOK_MS,
  patience,
  retryPause,
  SILENCE_MS,
  spread,
  SPREAD_MS,
} from "./patience";
import { Polls } from "./polls";
import type { BatchStore } from "./store";

export type ConnectionState = "connecting" | "live" | "waiting" | "reconnecting" | "polling" | "offline";

export interface Connection {
  state: ConnectionState;
  /** When this state began, in milliseconds since 1970 by the server's clock; null where nobody knew. */
  since: number | null;
}

/** What a connection can tell of itself. */
export interface Vitals {
  /** The sequence up to which everything has come. */
  sequence: number;
  /** Names the log that the sequence is of. */
  epoch: string | undefined;
  /** When the last message came, by the server's clock (ms); null before the first one. */
  heardAt: number | null;
  /** How often the stream came back after it had broken off. */
  healed: number;
  /** How often the stream began with all live batches, not where it had broken off. */
  begun: number;
  /** Tabs of this browser that live on this connection. */
  tabs: number;
  /** The build of the page that the server gives; null while unknown. */
  build: string | null;
}

export const NO_VITALS: Vitals = {
  sequence: 0,
  epoch: undefined,
  heardAt: null,
  healed: 0,
  begun: 0,
  tabs: 1,
  build: null,
};

/** The parts of a store that the feed fills. */
export type Filled = Pick<BatchStore, "push" | "snapshot" | "limit" | "forgetSequences" | "drop">;

/** The parts of an EventSource that the feed uses. */
export interface Stream {
  readonly readyState: number;
  addEventListener(name: string, listener: (event: Event) => void): void;
  close(): void;
}

export interface FeedSources {
  openStream(): Stream;
  /** All live batches as of a sequence; asked no more once `signal` says so, or after 30 s. */
  fetchLive(signal?: AbortSignal): Promise<Pick<BatchPage, "batches" | "limited" | "as_of">>;
  /** One batch, folded at least up to `minSequence`; null when the server does not know it. */
  fetchBatch(id: string, minSequence: number): Promise<BatchView | null>;
  /** The name of the page's build that the server gives, null when it does not know. */
  fetchBuild(): Promise<string | null>;
}

const CLOSED = 2;

interface Timed {
  server_time: string;
}

export class Feed {
  readonly #store: Filled;
  readonly #clock: ServerClock;
  readonly #sources: FeedSources;
  readonly #polls: Polls;
  readonly #listeners = new Set<() => void>();
  #connection: Connection;
  #vitals = NO_VITALS;
  #stream: Stream | undefined;
  /** Since when a stream is waited for, by the browser's clock; null while it speaks. */
  #awaySince: number | null = null;
  #round = 0;
  #isUp = false;
  #isLost = false;
  #isLogAway = false;
  #lastHeard = Date.now();
  /** How long the stream has said nothing as of the last look. */
  #silence = 0;
  #lookedAt = 0;
  /** Until then the server asked to wait for this stream. */
  #heldUntil = 0;
  #looking: ReturnType<typeof setInterval> | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(store: Filled, clock: ServerClock, sources: FeedSources) {
    this.#store = store;
    this.#clock = clock;
    this.#sources = sources;
    this.#polls = new Polls(
      (signal) =>
        sources.fetchLive(signal).then(({ batches, as_of, limited = {} }) => {
          this.#reconcile(batches, as_of);
          store.limit(limited);
        }),
      (state) => this.#set(state),
    );
    this.#connection = { state: "connecting", since: clock.told() };
  }

  vitals = (): Vitals => this.#vitals;

  connection = (): Connection => this.#connection;

  /** Call `listener` when the state or the build changes and at heartbeats; returns the way to stop that. */
  onConnection = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Connect anew, now: at the start, when the network is back, when the page wakes. */
  connect = (): void => {
    this.#close();
    const stream = this.#sources.openStream();
    this.#stream = stream;
    this.#lastHeard = Date.now(); // From here on it has its time to speak.
    this.#breakSilence();
    this.#heldUntil = 0;
    this.#awaySince ??= Date.now();
    this.#looking ??= setInterval(this.#look, LOOK_MS);
    const on = <T extends Timed>(name: string, take: (message: T) => void): void => {
      stream.addEventListener(name, (event) => {
        if (stream !== this.#stream) return;
        const { data, lastEventId } = event as MessageEvent<string>;
        const message = JSON.parse(data) as T;
        this.#clock.observe(Date.parse(message.server_time));
        this.#heard(lastEventId, name === "all_batches");
        take(message);
      });
    };
    on<AllBatches>("all_batches", ({ batches, as_of }) => {
      this.#reconcile(Object.values(batches), as_of);
    });
    on<BatchUpdate>("batch_update", ({ batch }) => this.#store.push(batch));
    on<Timed & { batches: Limited }>("limited", ({ batches }) => this.#store.limit(batches));
    on<Heartbeat>("heartbeat", ({ log_away }) => {
      this.#isLogAway = log_away === true;
      this.#set(this.#isLogAway ? "waiting" : "live");
      this.#tell();
    });
    stream.addEventListener("busy", () => {
      if (stream === this.#stream) this.#heldUntil = performance.now() + BUSY_MS;
    });
    stream.addEventListener("error", () => stream === this.#stream && this.#lost());
    if (this.#connection.state === "connecting") this.#polls.start(spread(GRACE_MS));
  };

  /** Connect no more; nothing that is still under way changes its state. */
  end(): void {
    this.#close();
    clearInterval(this.#looking);
    this.#looking = undefined;
    this.#polls.stop();
    this.#round += 1;
  }

  /** The machine says that it has no network; a server on this machine may answer all the same. */
  doubt = async (): Promise<void> => {
    const round = this.#round;
    const answers = await this.#sources.fetchLive().then(
      () => true,
      () => false,
    );
    if (answers || round !== this.#round) return;
    this.#lost();
    this.#set("offline");
  };

  /** The page was asleep: trust the connection only if it spoke lately. */
  wake = (): void => {
    if (Date.now() - this.#lastHeard > SILENCE_MS && !this.#isHeld()) this.connect();
  };

  #heard(id: string, isBeginning: boolean): void {
    const { healed, begun, epoch: before } = this.#vitals;
    const [place, epoch = before] = id.split("-", 2);
    if (before !== undefined && epoch !== before) this.#store.forgetSequences();
    this.#lastHeard = Date.now();
    this.#breakSilence();
    this.#vitals = {
      ...this.#vitals,
      sequence: Number(place) || 0,
      epoch,
      heardAt: this.#clock.now(),
      healed: this.#isLost ? healed + 1 : healed,
      begun: isBeginning ? begun + 1 : begun,
    };
    this.#isLost = false;
    this.#awaySince = null;
    this.#isUp = true;
    this.#round += 1;
    this.#polls.stop();
    this.#set(this.#isLogAway ? "waiting" : "live");
  }

  #lost(grace = spread(GRACE_MS)): void {
    if (this.#isUp || this.#connection.state === "connecting") this.#set("reconnecting");
    this.#isLost ||= this.#isUp;
    this.#isUp = false;
    this.#store.limit({}); // Nobody says any more that it holds.
    this.#breakSilence();
    this.#awaySince ??= Date.now();
    this.#polls.start(grace);
    if (this.#stream?.readyState !== CLOSED || this.#retry !== undefined) return;
    // The browser has given up, as it does after an HTTP error: it is ours to go on.
    this.#retry = setTimeout(this.connect, retryPause(this.#away()));
  }

  // A stream that fell silent is not given up at once: it speaks on by itself when the server does,
  // and a server that stood still under its load is not made to begin with everybody anew.
  #look = (): void => {
    const now = performance.now();
    this.#silence += Math.min(now - this.#lookedAt, 2 * LOOK_MS);
    this.#lookedAt = now;
    if (this.#isUp) {
      if (this.#silence >= SILENCE_MS) this.#lost(Math.random() * SPREAD_MS);
      return;
    }
    if (this.#isHeld()) return this.#breakSilence();
    const bound = patience(this.#away(), this.#connection.state === "polling");
    if (this.#silence >= bound && this.#retry === undefined) this.connect();
  };

  #breakSilence(): void {
    this.#silence = 0;
    this.#lookedAt = performance.now();
  }

  #isHeld(): boolean {
    return performance.now() < this.#heldUntil;
  }

  #away(): number {
    return this.#awaySince === null ? 0 : Date.now() - this.#awaySince;
  }

  #close(): void {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#stream?.close();
    this.#stream = undefined;
  }

  #reconcile(batches: BatchView[], asOf: number): void {
    for (const gone of this.#store.snapshot(batches, asOf)) void this.#lookUp(gone);
  }

  // A failure leaves the batch as it was: the next snapshot or poll asks again.
  async #lookUp(gone: BatchView): Promise<void> {
    const found = await this.#sources
      .fetchBatch(gone.id, Math.max(gone.sequence, 0))
      .catch(() => undefined);
    if (found) this.#store.push(found);
    if (found === null) this.#store.drop(gone.id);
  }

  // It may be another server that answers now.
  async #askBuild(): Promise<void> {
    const build = await this.#sources.fetchBuild().catch(() => null);
    if (build === null || build === this.#vitals.build) return;
    this.#vitals = { ...this.#vitals, build };
    this.#tell();
  }

  #set(state: ConnectionState): void {
    if (state === this.#connection.state) return;
    if (state === "live" || state === "polling") void this.#askBuild();
    this.#connection = { state, since: this.#clock.told() };
    this.#clock.freeze(state === "offline");
    this.#tell();
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}
