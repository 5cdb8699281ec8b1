/** Played ends of what a feed and a shared worker talk through. */

import type { Stream } from "../src/live/feed";
import type { FarPort } from "../src/live/line";
import type { Handout, Port, Word } from "../src/live/sharing";

/** A stream that says what it is made to say. */
export class PlayedStream extends EventTarget implements Stream {
  readyState = 1;

  close(): void {
    this.readyState = 2;
  }

  say(name: string, data: object, id = "1-one"): void {
    const text = JSON.stringify({ server_time: new Date().toISOString(), ...data });
    this.dispatchEvent(new MessageEvent(name, { data: text, lastEventId: id }));
  }
}

/** Both ends of a channel in one: what is said at one is heard at the other, in order. */
export class Channel {
  readonly near: FarPort = {
    onmessage: null,
    postMessage: (word: Word) => {
      if (this.isOpen) queueMicrotask(() => this.far.onmessage?.({ data: word } as MessageEvent<Word>));
    },
    close: () => {
      this.isOpen = false;
    },
  };
  readonly far: Port = {
    onmessage: null,
    postMessage: (handout: Handout) => {
      this.handed += 1;
      this.whole.push(handout.isWhole);
      if (this.isOpen) this.held.push(handout);
      if (!this.isAsleep) this.deliver();
    },
    addEventListener: (_, listener) => void (this.crash = listener),
  };
  isOpen = true;
  isAsleep = false;
  handed = 0;
  /** Of each handout whether it was whole. */
  whole: boolean[] = [];
  held: Handout[] = [];
  crash = (): void => undefined;

  deliver(): void {
    for (const handout of this.held.splice(0))
      queueMicrotask(() => this.near.onmessage?.({ data: handout } as MessageEvent<Handout>));
  }
}
