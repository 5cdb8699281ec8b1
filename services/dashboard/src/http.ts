/** One way to ask the server, with a time limit and with errors in words for a person. */

import type { FieldError, ProblemBody } from "./contract";
import { clock } from "./live/clock";

const TIMEOUT_MS = 15_000;

/** A request that failed; `status` is 0 when no answer came at all. */
export class Problem extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly fields: readonly FieldError[] = [],
    /** The commands that the batch takes now, where the server names them. */
    readonly allowed: readonly string[] | null = null,
  ) {
    super(message);
    this.name = "Problem";
  }
}

export interface RequestOptions {
  method?: "GET" | "POST" | "PATCH" | "DELETE";
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
  /** How long an answer is waited for, in milliseconds. */
  limit?: number | undefined;
}

/** Return the server's JSON answer. Throws `Problem` when it refuses or stays away. */
export async function request<T>(path: string, options: RequestOptions = {}): Promise<T> {
  const limit = AbortSignal.timeout(options.limit ?? TIMEOUT_MS);
  const signal = options.signal ? AbortSignal.any([options.signal, limit]) : limit;
  const init: RequestInit = {
    method: options.method ?? "GET",
    headers: { Accept: "application/json", ...options.headers },
    signal,
  };
  if (options.body !== undefined) {
    init.body = JSON.stringify(options.body);
    init.headers = { ...init.headers, "Content-Type": "application/json" };
  }
  const answer = await fetch(path, init).catch((error: unknown) => {
    if (options.signal?.aborted) throw error;
    throw new Problem(
      `No answer from ${location.host}: the server is down or out of reach.`,
      0,
    );
  });
  clock.guess(Date.parse(answer.headers.get("Date") ?? "")); // It may come before the stream does.
  const body: unknown = await answer.json().catch(() => null);
  if (!answer.ok) throw problemOf(answer, body);
  if (body === null) {
    throw new Problem("The server's answer is not JSON; reload the page.", answer.status);
  }
  return body as T;
}

function problemOf(answer: Response, body: unknown): Problem {
  const { detail, title, errors, allowed } = (body ?? {}) as ProblemBody;
  const words = detail || title || `The server answered ${answer.status} without an explanation.`;
  return new Problem(
    words,
    answer.status,
    Array.isArray(errors) ? errors : [],
    Array.isArray(allowed) ? allowed : null,
  );
}

/** Return `path` with the parameters that have a value; a list repeats its name. */
export function withQuery(
  path: string,
  parameters: Record<string, string | number | boolean | readonly string[] | null | undefined>,
): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value === null || value === undefined || value === "") continue;
    for (const item of Array.isArray(value) ? value : [value]) query.append(name, String(item));
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

/** Return 32 random hex digits; works on plain http too, where randomUUID is missing. */
export function randomKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
