/** One clock for all ticking numbers, corrected by the server's time. */

const SAMPLES = 16;
/** So many are told of a new second together, and so long it takes until the next ones are. */
const TOGETHER = 6;
const GAP_MS = 20;

/** Milliseconds since 1970 as this machine had it at the start: setting its clock moves nothing. */
const machine = (): number => performance.timeOrigin + performance.now();

export class ServerClock {
  readonly #listeners = new Set<() => void>();
  readonly #offsets: number[] = [];
  /** From this machine's time to the server's; null until the server has told any. */
  #offset: number | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #second = Math.floor(machine() / 1000);
  #frozen = false;

  /** The server's time now, in milliseconds since 1970; until it has told any, this machine's. */
  now(): number {
    return machine() + (this.#offset ?? 0);
  }

  /** The server's time now; null until it has told any, when nobody knows it. */
  told(): number | null {
    return this.#offset === null ? null : this.now();
  }

  /**
   * Take the server's time (ms) out of a message just received. The way here takes time, so
   * each reading is late: the greatest of the last ones is nearest to the truth.
   */
  observe(serverTime: number): void {
    const read = serverTime - machine();
    if (Number.isNaN(read)) return;
    if (this.#offsets.push(read) > SAMPLES) this.#offsets.shift();
    this.#correct(Math.max(...this.#offsets));
  }

  /** As `observe`, of a time in whole seconds: it counts until a better one has come. */
  guess(serverTime: number): void {
    const read = serverTime - machine();
    if (Number.isNaN(read) || this.#offsets.length > 0) return;
    this.#correct(this.#offset === null ? read : Math.max(read, this.#offset));
  }

  #correct(offset: number): void {
    const moved = Math.abs(offset - (this.#offset ?? 0));
    this.#offset = offset;
    if (moved >= 1000) this.#tick(); // What is shown as now is another second.
  }

  /** The whole second that the page shows as now. */
  second = (): number => this.#second;

  /** Hold the ticking still while nobody knows what the batches do. */
  freeze(frozen: boolean): void {
    if (frozen === this.#frozen) return;
    this.#frozen = frozen;
    if (!frozen) this.#tick();
  }

  /** Call `listener` at each new second; returns the way to stop that. */
  onSecond = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) this.#tick();
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) clearTimeout(this.#timer);
    };
  };

  #tick = (): void => {
    clearTimeout(this.#timer);
    const now = this.now();
    if (this.#listeners.size > 0) this.#timer = setTimeout(this.#tick, 1000 - (now % 1000) + 5);
    const second = Math.floor(now / 1000);
    if (this.#frozen || second === this.#second) return;
    this.#second = second;
    this.#spread([...this.#listeners]);
  };

  // All rows at once would take longer than a frame lasts.
  #spread(listeners: (() => void)[]): void {
    for (const listener of listeners.splice(0, TOGETHER))
      if (this.#listeners.has(listener)) listener();
    if (listeners.length > 0) setTimeout(() => this.#spread(listeners), GAP_MS);
  }
}

/** The clock of this tab. */
export const clock = new ServerClock();
