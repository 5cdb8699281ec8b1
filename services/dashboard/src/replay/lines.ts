/** The lines of a file or of an answer, piece by piece, each with its place in bytes. */

export interface Line {
  text: string;
  /** 1 for the first line. */
  number: number;
  start: number;
  end: number;
}

/** A file that can't be read as an export: which line, what is wrong with it, and what to do. */
export class FileError extends Error {
  override name = "FileError";
}

const NEWLINE = 10;
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder("utf-8", { ignoreBOM: true });
/** What stands for a byte that is no UTF-8. */
const NO_CHARACTER = "\ufffd";

/** Cuts bytes into lines; a last line without an end of line comes from `rest`. */
export class LineCutter {
  #left: Uint8Array[] = [];
  #number: number;
  /** Where in the whole the first byte that is left stands. */
  #start: number;

  /** For bytes that begin with line `first`, at `start` of the whole. */
  constructor(start = 0, first = 1) {
    this.#start = start;
    this.#number = first - 1;
  }

  *cut(bytes: Uint8Array): Generator<Line> {
    const whole = bytes.lastIndexOf(NEWLINE) + 1;
    let from = 0;
    if (this.#left.length > 0 && whole > 0) {
      from = bytes.indexOf(NEWLINE) + 1;
      yield this.#line(bytes.subarray(0, from - 1), 1);
    }
    const text = asciiOf(bytes.subarray(from, whole));
    if (text !== null) yield* this.#cutText(text);
    else yield* this.#cutBytes(bytes.subarray(from, whole));
    if (whole < bytes.length) this.#left.push(bytes.slice(whole));
  }

  /** Lines of a text with a byte for each character: it is decoded once for all of them. */
  *#cutText(text: string): Generator<Line> {
    const origin = this.#start;
    let from = 0;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n", from)) {
      this.#number += 1;
      this.#start = origin + end + 1;
      const line = text.slice(from, end);
      yield { text: line, number: this.#number, start: origin + from, end: this.#start };
      from = end + 1;
    }
  }

  *#cutBytes(bytes: Uint8Array): Generator<Line> {
    let from = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, from)) {
      yield this.#line(bytes.subarray(from, end), 1);
      from = end + 1;
    }
  }

  *rest(): Generator<Line> {
    if (this.#left.length > 0) yield this.#line(new Uint8Array(), 0);
  }

  #line(tail: Uint8Array, newline: number): Line {
    const bytes = this.#left.length > 0 ? joined([...this.#left, tail]) : tail;
    this.#left = [];
    this.#number += 1;
    const start = this.#start;
    this.#start += bytes.length + newline;
    return { text: textOf(bytes, this.#number), number: this.#number, start, end: this.#start };
  }
}

/** The text of bytes that are all ASCII, else null. */
function asciiOf(bytes: Uint8Array): string | null {
  const text = lenient.decode(bytes);
  return text.length === bytes.length && !text.includes(NO_CHARACTER) ? text : null;
}

function textOf(bytes: Uint8Array, number: number): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw lineError(number, "it is no UTF-8 text");
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export const REMEDY =
  "Download the log again (“Download log” on the batch's page, or `millstream audit export FILE" +
  " --batch ID`) and choose the whole file";

export function lineError(number: number, words: string): FileError {
  return new FileError(`Line ${number} is no line of an export: ${words}. ${REMEDY}.`);
}
