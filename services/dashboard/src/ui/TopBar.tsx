/** Name, navigation with the running badge, connection, notices, sound switch, keys. */

import { useEffect, useRef, useSyncExternalStore, type MouseEvent } from "react";

import { useCountsNow } from "../live/hooks";
import { usePlace } from "../place";
import { onSound, soundIsOn, switchSound } from "../sound";
import { Bell } from "./Bell";
import { ConnectionPill } from "./Connection";
import { Icon } from "./Icon";
import { focusText, focusHistory } from "./keys";
import { Link } from "./Link";
import { grouped } from "../words";

export function TopBar({ help }: { help(): void }) {
  const { page } = usePlace();
  const sections = useRef<HTMLElement>(null);
  useEffect(() => {
    // On a narrow screen the row of sections may have been moved away from this one.
    const current = sections.current?.querySelector("[aria-current]");
    current?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [page]);
  return (
    <header className="topbar">
      <SkipLinks hasHistory={page === "hub" || page === "batches"} />
      <span className="brand">
        <span className="brand-mark" aria-hidden="true" />
        Millstream
      </span>
      <nav ref={sections} aria-label="Sections">
        <Link to="/" isCurrent={page === "hub"}>
          <span>
            <span className="for-readers">Generation </span>Hub
            <span className="for-readers">:</span>
          </span>
          <RunningBadge />
        </Link>
        <Link to="/batches" isCurrent={page === "batches"}>
          Batches
        </Link>
        <Link to="/samples" isCurrent={page === "samples"}>
          Samples
        </Link>
        <Link to="/statistics" isCurrent={page === "statistics"}>
          Statistics
        </Link>
        <Link to="/replay" isCurrent={page === "replay"}>
          Replay
        </Link>
        <Link to="/nodes" isCurrent={page === "nodes"}>
          Nodes
        </Link>
        <Link to="/settings" isCurrent={page === "settings"}>
          Settings
        </Link>
      </nav>
      <span className="topbar-end">
        <ConnectionPill />
        <Bell />
        <SoundSwitch />
        <button
          type="button"
          className="quiet icon-only key-help-open"
          data-testid="key-help-open"
          aria-label="Keys"
          aria-keyshortcuts="?"
          title="Keys: press ?"
          onClick={help}
        >
          ?
        </button>
      </span>
    </header>
  );
}

/** In sight with the focus alone: the way past all that stands before what is looked for. */
function SkipLinks({ hasHistory }: { hasHistory: boolean }) {
  const skip = (event: MouseEvent, to: () => void): void => {
    event.preventDefault(); // The address tells of the page, not of where the focus is.
    to();
  };
  return (
    <>
      <a
        className="skip"
        href="#hub"
        data-testid="skip"
        onClick={(event) => skip(event, () => focusText("main"))}
      >
        Skip to the content
      </a>
      {hasHistory && (
        <a
          className="skip"
          href="#history"
          data-testid="skip-history"
          onClick={(event) => skip(event, focusHistory)}
        >
          Skip to the list of batches
        </a>
      )}
    </>
  );
}

function RunningBadge() {
  const { running, stuck } = useCountsNow();
  return (
    <span data-testid="badge" data-count={running} className="badge-slot">
      {running > 0 && <span className="badge">{grouped(running)} running</span>}
      {stuck > 0 && <span className="badge badge-stuck">{grouped(stuck)} stuck</span>}
    </span>
  );
}

function SoundSwitch() {
  const isOn = useSyncExternalStore(onSound, soundIsOn);
  return (
    <button
      type="button"
      className="quiet icon-only"
      data-testid="sound"
      aria-pressed={isOn}
      aria-label="Sound when a batch ends"
      title={isOn ? "Sound is on" : "Sound is off"}
      onClick={() => switchSound(!isOn)}
    >
      <Icon name={isOn ? "sound" : "quiet"} />
    </button>
  );
}
