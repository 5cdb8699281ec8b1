/** What the page and its worker say to each other: a question with a number, and its answers. */

import type { Checked } from "./check";
import type { Moment, Opened, ShownEvent } from "./log";
import type { Packed } from "./pieces";
import type { Proof } from "./prove";

/** Questions by name: what is asked with, and what is answered. */
export interface Questions {
  prove: { ask: { id: string; at: number | null }; answer: Proof };
  open: { ask: { file: Blob }; answer: Opened };
  piece: { ask: { file: Blob; place: number }; answer: Packed };
  check: { ask: { file: Blob }; answer: Checked };
  seek: { ask: { id: string; events: number }; answer: Moment };
  events: { ask: PartOfBatch; answer: ShownEvent[] };
  samples: { ask: PartOfBatch; answer: ShownEvent[] };
}

/** `limit` of a batch's events or samples from `from` on, of those up to event `until`. */
export interface PartOfBatch {
  id: string;
  from: number;
  limit: number;
  until: number;
}

export type Name = keyof Questions;

export type Question = {
  [N in Name]: { number: number; name: N; ask: Questions[N]["ask"] };
}[Name];

export type Reply =
  | { number: number; kind: "answer"; answer: unknown }
  | { number: number; kind: "progress"; progress: number }
  | { number: number; kind: "failure"; words: string };
