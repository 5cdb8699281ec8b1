/** The connection: its state, what it tells of itself, and plain words when numbers may be old. */

import type { ConnectionState } from "../live/feed";
import { useConnection, useIsOutdated, useLag, useNow, useVitals } from "../live/hooks";
import { duration, grouped, localTime, plural, rounded, UNKNOWN } from "../words";
import { Popover } from "./Popover";

const WORDS: Record<ConnectionState, { name: string; hint: string }> = {
  connecting: { name: "Connecting", hint: "Waiting for the server's first answer." },
  live: { name: "Live", hint: "Every change arrives as it happens." },
  waiting: { name: "Log away", hint: "The server answers, but the event log behind it does not." },
  reconnecting: { name: "Reconnecting", hint: "The live stream broke off." },
  polling: { name: "Polling", hint: "The live stream is down; asking every 5 seconds." },
  offline: { name: "Offline", hint: "The server does not answer." },
};
const DETAILS = "connection-details";

export function ConnectionPill() {
  const { state } = useConnection();
  const { name, hint } = WORDS[state];
  return (
    <>
      {/* Said of itself, since the words on the button move with each second. */}
      <span role="status" className="for-readers">
        Connection: {name}
      </span>
      <button
        type="button"
        className={`pill pill-${state}`}
        data-testid="connection"
        data-state={state}
        popoverTarget={DETAILS}
        title={hint}
      >
        <span className="pill-dot" aria-hidden="true" />
        {name}
        <PillLag />
      </button>
      <Popover id={DETAILS} title="Connection">
        {() => <Details />}
      </Popover>
    </>
  );
}

function PillLag() {
  const lag = useLag();
  return lag === null ? null : <span className="pill-lag" data-testid="lag">{rounded(lag)} ms</span>;
}

function Details() {
  const { state, since } = useConnection();
  const { sequence, heardAt, healed, tabs } = useVitals();
  const lag = useLag();
  const now = useNow();
  const facts: [name: string, testid: string, value: string][] = [
    ["Since", "since", since === null ? UNKNOWN : localTime(new Date(since).toISOString())],
    ["Up to sequence", "sequence", grouped(sequence)],
    ["Stored to shown", "lag", lag === null ? UNKNOWN : `${rounded(lag)} ms`],
    ["Last message", "heard", heardAt === null ? UNKNOWN : `${duration(now - heardAt)} ago`],
    ["Breaks healed", "healed", grouped(healed)],
    ["Shared by", "sharing", plural(tabs, "tab")],
  ];
  return (
    <>
      <p>{WORDS[state].hint}</p>
      <dl className="popover-facts">
        {facts.map(([name, testid, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd data-testid={`connection-${testid}`}>{value}</dd>
          </div>
        ))}
      </dl>
    </>
  );
}

/** Says so while nothing on the page can be trusted to be current. */
export function StaleNote() {
  const { state, since } = useConnection();
  if (state !== "offline") return null;
  return (
    <p className="stale-note" data-testid="stale-note">
      The server does not answer.{" "}
      {since !== null && `What you see is as of ${localTime(new Date(since).toISOString())}; `}
      {since === null ? "It" : "it"} goes on by itself once the server is back.
    </p>
  );
}

/** Says so when the server has been replaced by one with another page. */
export function VersionNote() {
  if (!useIsOutdated()) return null;
  return (
    <p className="version-note" data-testid="version-note" role="status">
      The server is of another version than this page.
      <button type="button" data-testid="reload" onClick={() => location.reload()}>
        Reload
      </button>
    </p>
  );
}
