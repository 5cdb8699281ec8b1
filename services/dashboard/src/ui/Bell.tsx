/** The last notices behind a bell, with how many of them were not looked at yet. */

import { useEffect, useSyncExternalStore } from "react";

import { clearKept, keptNotices, markRead, onKept, type Kept } from "../kept";
import { clock } from "../live/clock";
import { useNow } from "../live/hooks";
import { batchAddress } from "../place";
import { duration, localTime, plural } from "../words";
import { Icon } from "./Icon";
import { Link } from "./Link";
import { Foreign } from "./parts";
import { Popover } from "./Popover";
import { NOTICE_ICONS } from "./Toasts";

const LIST = "notices";

export function Bell() {
  const kept = useSyncExternalStore(onKept, keptNotices);
  const unread = kept.filter((one) => one.isUnread).length;
  return (
    <>
      <button
        type="button"
        className="quiet icon-only bell"
        data-testid="bell"
        data-unread={unread}
        popoverTarget={LIST}
        aria-label={unread > 0 ? `Notices, ${unread} unread` : "Notices"}
        title="Notices"
      >
        <Icon name="bell" />
        {unread > 0 && <span className="bell-count">{unread}</span>}
      </button>
      <Popover id={LIST} title="Notices">
        {() => <List kept={kept} />}
      </Popover>
    </>
  );
}

const hide = (): void => document.getElementById(LIST)?.hidePopover();

/** It is drawn while it is open alone: what stands in it counts as read. */
function List({ kept }: { kept: readonly Kept[] }) {
  const now = useNow();
  useEffect(markRead, [kept]);
  if (kept.length === 0)
    return <p className="muted">No notices yet. Ends of batches and stuck ones are told here.</p>;
  return (
    <>
      <button type="button" className="link clear-notices" data-testid="notices-clear" onClick={clearKept}>
        Clear all
      </button>
      <ul className="notices" aria-label={`The last ${plural(kept.length, "notice")}`}>
        {kept.map(({ fact, kind, title, text, at, batch }) => (
          <li key={fact} data-testid="notice" data-kind={kind}>
            <Icon name={NOTICE_ICONS[kind]} />
            <div>
              {batch ? (
                <Link to={batchAddress(batch)} onFollow={hide}>
                  {title}
                </Link>
              ) : (
                <b>{title}</b>
              )}
              <p className="muted">
                <Foreign>{text}</Foreign>
              </p>
              <time className="muted" dateTime={new Date(at).toISOString()}>
                {ageWords(at, now)}
              </time>
            </div>
          </li>
        ))}
      </ul>
    </>
  );
}

// Until the server has told its time nobody knows how long ago it was.
function ageWords(at: number, now: number): string {
  if (clock.told() === null) return localTime(new Date(at).toISOString());
  return now - at < 1000 ? "just now" : `${duration(now - at)} ago`;
}
