/** The polls while there is no stream: one after the other, never two at once. */

import { ANSWER_MS, ASK_MS, KNOCK_MS, POLL_MS, spread } from "./patience";

export class Polls {
  readonly #ask: (signal: AbortSignal) => Promise<void>;
  readonly #tell: (state: "polling" | "offline") => void;
  #due: ReturnType<typeof setTimeout> | undefined;
  #asking: AbortController | undefined;
  #bound = ASK_MS.least;

  /** `ask` polls once and fails when there is no answer; `tell` is told how polls go. */
  constructor(
    ask: (signal: AbortSignal) => Promise<void>,
    tell: (state: "polling" | "offline") => void,
  ) {
    this.#ask = ask;
    this.#tell = tell;
  }

  /** Poll from now on, first after `pause`, unless that is so already. */
  start(pause: number): void {
    if (this.#asking) return;
    this.#due ??= setTimeout(() => void this.#once(), pause);
  }

  /** Poll no more; a poll under way is given up and tells nothing. */
  stop(): void {
    clearTimeout(this.#due);
    this.#due = undefined;
    this.#asking?.abort();
    this.#asking = undefined;
    this.#bound = ASK_MS.least;
  }

  async #once(): Promise<void> {
    this.#due = undefined;
    const asking = new AbortController();
    this.#asking = asking;
    // The answer may still come, and is good then.
    const doubt = setTimeout(() => asking === this.#asking && this.#tell("offline"), ANSWER_MS);
    const limit = setTimeout(() => asking.abort(), this.#bound);
    const isAnswered = await this.#ask(asking.signal).then(
      () => true,
      () => false,
    );
    clearTimeout(doubt);
    clearTimeout(limit);
    if (asking !== this.#asking) return;
    this.#asking = undefined;
    if (asking.signal.aborted) this.#bound = Math.min(ASK_MS.most, 2 * this.#bound);
    this.#tell(isAnswered ? "polling" : "offline");
    this.start(isAnswered ? POLL_MS : spread(KNOCK_MS));
  }
}
