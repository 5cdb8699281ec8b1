/** Where a feed gets everything from: the server that the page came from. */

import { getBatch, getHealth, listBatches } from "../calls";
import { LIVE_STATES } from "../contract";
import { Problem } from "../http";
import type { FeedSources } from "./feed";
import { ASK_MS } from "./patience";

export const sources: FeedSources = {
  openStream: () => new EventSource("/v1/stream"),
  fetchLive: (signal) => listBatches({ states: LIVE_STATES, limit: 1000 }, signal, ASK_MS.most),
  fetchBatch: (id, minSequence) =>
    getBatch(id, minSequence).then(
      (answer) => answer.batch,
      (error: unknown) => {
        if (error instanceof Problem && error.status === 404) return null;
        throw error;
      },
    ),
  fetchBuild: () => getHealth().then(({ page }) => page),
};
