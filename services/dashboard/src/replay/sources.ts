/** Where a proof gets its two sides from: the log's export, and the read model's answer. */

import { logAddress } from "../calls";
import { withQuery } from "../http";
import type { Sources } from "./prove";

const TRIES = 3;
const PAUSE_MS = 1_000;

export function sourcesOf(id: string): Sources {
  return {
    openLog: async () => {
      const { body } = await answered(logAddress(id, null));
      if (!body) throw new Error("The server sent no log.");
      return body;
    },
    fetchView: async (sequence) => {
      const path = withQuery(`/v1/batches/${encodeURIComponent(id)}`, { at_seq: sequence });
      return (await answered(path)).text();
    },
  };
}

/** The server's answer; one that lags behind the log is asked again. Throws its own words. */
async function answered(path: string): Promise<Response> {
  for (let left = TRIES; ; left--) {
    const answer = await fetch(path).catch(() => {
      throw new Error("No answer from the server: it is down or out of reach. Try again.");
    });
    if (answer.ok) return answer;
    if (answer.status !== 503 || left <= 1) throw new Error(await wordsOf(answer));
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

async function wordsOf(answer: Response): Promise<string> {
  const body = (await answer.json().catch(() => null)) as { detail?: unknown } | null;
  const { detail } = body ?? {};
  return typeof detail === "string" ? detail : `The server answered ${answer.status}.`;
}
