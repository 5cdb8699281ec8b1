/** A command whose answer may get lost: its repeat carries the same key, and so does nothing twice. */

import { Problem, randomKey } from "./http";

export class Unanswered {
  #last: { text: string; key: string } | null = null;

  /** Ask with a key: a new one, unless the same body was asked before and nobody knows its outcome. */
  async ask<Body, Answer>(
    body: Body,
    send: (body: Body, key: string) => Promise<Answer>,
  ): Promise<Answer> {
    const text = JSON.stringify(body);
    const key = this.#last?.text === text ? this.#last.key : randomKey();
    this.#last = null;
    try {
      return await send(body, key);
    } catch (error) {
      if (!isRefusal(error)) this.#last = { text, key };
      throw error;
    }
  }
}

/** Only a refusal says that nothing was done. */
function isRefusal(error: unknown): boolean {
  return error instanceof Problem && error.status >= 400 && error.status < 500;
}
