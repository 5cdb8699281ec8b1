/** When the server is back: what was asked while it was away is old or missing. */

import type { Connection } from "./feed";

interface Connected {
  connection(): Connection;
  onConnection(listener: () => void): () => void;
}

/**
 * Call `listener` each time that the connection is live again. The first one of a page is no
 * return, unless it took an outage to get there: then what was asked meanwhile has failed.
 */
export function onReturn(line: Connected, listener: () => void): () => void {
  let wasLive = false;
  let wasAway = false;
  return line.onConnection(() => {
    const { state } = line.connection();
    if (state !== "live") {
      wasAway ||= wasLive || state !== "connecting";
      return;
    }
    const isBack = wasAway;
    wasLive = true;
    wasAway = false;
    if (isBack) listener();
  });
}
