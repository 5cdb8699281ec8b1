/** When the server is back: what was asked while it was away is old or missing. */

import type { Connection, Vitals } from "./feed";
import { LASTING_MS, SPREAD_MS } from "./patience";

interface Connected {
  connection(): Connection;
  vitals(): Pick<Vitals, "begun">;
  onConnection(listener: () => void): () => void;
}

/** What is to be asked anew: all that may be old, or after a short break what failed in it. */
export type Extent = "all" | "failed";

interface Break {
  at: number;
  begun: number;
  wasPutAway: boolean;
}

/**
 * Call `listener` each time that the connection is live again, within a second: all pages come back
 * together. The first time of a page is no return, unless it took an outage to get there: then what
 * was asked meanwhile has failed. A stream that goes on where it broke off has missed nothing.
 */
export function onReturn(line: Connected, listener: (extent: Extent) => void): () => void {
  let wasLive = false;
  let away: Break | undefined;
  return line.onConnection(() => {
    const { state } = line.connection();
    const { begun } = line.vitals();
    if (state !== "live") {
      // A page that was live and connects was put away, and hears of nothing meanwhile.
      const wasPutAway = wasLive && state === "connecting";
      if (wasLive || state !== "connecting") away ??= { at: Date.now(), begun, wasPutAway };
      return;
    }
    const isAll =
      away && (away.wasPutAway || away.begun !== begun || Date.now() - away.at >= LASTING_MS);
    if (away) setTimeout(listener, Math.random() * SPREAD_MS, isAll ? "all" : "failed");
    wasLive = true;
    away = undefined;
  });
}
