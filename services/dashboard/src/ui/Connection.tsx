/** The connection state, and a plain word when the numbers may be old. */

import type { ConnectionState } from "../live/feed";
import { useConnection } from "../live/hooks";
import { localTime } from "../words";

const WORDS: Record<ConnectionState, { name: string; hint: string }> = {
  connecting: { name: "Connecting", hint: "Waiting for the server's first answer." },
  live: { name: "Live", hint: "Every change arrives as it happens." },
  waiting: { name: "Log away", hint: "The server answers, but the event log behind it does not." },
  reconnecting: { name: "Reconnecting", hint: "The live stream broke off." },
  polling: { name: "Polling", hint: "The live stream is down; asking every 5 seconds." },
  offline: { name: "Offline", hint: "The server does not answer." },
};

export function ConnectionPill() {
  const { state, since } = useConnection();
  const { name, hint } = WORDS[state];
  return (
    <span
      className={`pill pill-${state}`}
      data-testid="connection"
      data-state={state}
      role="status"
      title={`${hint} Since ${localTime(new Date(since).toISOString())}.`}
    >
      <span className="pill-dot" aria-hidden="true" />
      {name}
    </span>
  );
}

/** Says so while nothing on the page can be trusted to be current. */
export function StaleNote() {
  const { state, since } = useConnection();
  if (state !== "offline") return null;
  return (
    <p className="stale-note" data-testid="stale-note">
      The server does not answer. What you see is as of{" "}
      {localTime(new Date(since).toISOString())}; it goes on by itself once the server is back.
    </p>
  );
}
