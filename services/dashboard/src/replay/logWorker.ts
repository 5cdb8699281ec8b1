/** One side of a worker that reads logs. One worker does one thing: end it to cancel. */

import type { Name, Question, Questions, Reply } from "./messages";

interface Waiting {
  resolve(answer: never): void;
  reject(error: Error): void;
  progress(value: number): void;
}

export class LogWorker {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #number = 0;
  /** Why it answers nothing any more; null while it does. */
  #failure: string | null = null;

  constructor(address: string) {
    this.#worker = new Worker(address, { type: "module" });
    this.#worker.onmessage = ({ data }: MessageEvent<Reply>) => this.#take(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#fail("This page's worker could not start; reload the page.");
    };
  }

  get isBroken(): boolean {
    return this.#failure !== null;
  }

  /** Ask one question. Rejects with words for a person, also when the worker is ended. */
  ask<N extends Name>(
    name: N,
    ask: Questions[N]["ask"],
    progress: (value: number) => void = () => undefined,
  ): Promise<Questions[N]["answer"]> {
    if (this.#failure !== null) return Promise.reject(new Error(this.#failure));
    const number = ++this.#number;
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject, progress });
      this.#worker.postMessage({ number, name, ask } as Question);
    });
  }

  end(): void {
    this.#worker.terminate();
    this.#fail("It was cancelled.");
  }

  #take(reply: Reply): void {
    const waiting = this.#waiting.get(reply.number);
    if (!waiting) return;
    if (reply.kind === "progress") return waiting.progress(reply.progress);
    this.#waiting.delete(reply.number);
    if (reply.kind === "answer") waiting.resolve(reply.answer as never);
    else waiting.reject(new Error(reply.words));
  }

  #fail(words: string): void {
    this.#failure = words;
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of all) reject(new Error(words));
  }
}
