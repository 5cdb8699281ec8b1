/** Name, navigation with the running badge, connection state, sound switch. */

import { useSyncExternalStore } from "react";

import { useLiveIds, useStuckIds } from "../live/hooks";
import { onSound, soundIsOn, switchSound } from "../sound";
import { ConnectionPill } from "./Connection";
import { Icon } from "./Icon";

export function TopBar() {
  return (
    <header className="topbar">
      <span className="brand">
        <span className="brand-mark" aria-hidden="true" />
        Millstream
      </span>
      <nav aria-label="Sections">
        <a href="#hub">
          Hub <RunningBadge />
        </a>
        <a href="#history">History</a>
      </nav>
      <span className="topbar-end">
        <ConnectionPill />
        <SoundSwitch />
      </span>
    </header>
  );
}

function RunningBadge() {
  const running = useLiveIds().length;
  const stuck = useStuckIds().length;
  return (
    <span data-testid="badge" data-count={running} className="badge-slot">
      {running > 0 && <span className="badge">{running} running</span>}
      {stuck > 0 && <span className="badge badge-stuck">{stuck} stuck</span>}
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
