/** A slider over a part of the log, step by step or played, and the way back to the present. */

import { useIsFetching } from "@tanstack/react-query";
import { useEffect, useState } from "react";

import { addressWith, go } from "../place";
import { grouped, localTime } from "../words";
import { TravelControls } from "./TravelControls";

/** So long the slider rests before its place is asked for. */
const PAUSE_MS = 120;
/** A moment of a replay stands at least so long, and until its answers are there. */
const MOMENT_MS = 400;

export function Travel(props: {
  at: number | null;
  first: number;
  last: number;
  /** When the last event of the moment shown was stored, in milliseconds. */
  time: number;
  /** What is shown and its `time` are those of the moment before: this one is not read yet. */
  isOld: boolean;
  /** Whether `first` is known already, so that a replay can begin there. */
  isReady?: boolean;
}) {
  const { at, first, last, time, isOld, isReady = true } = props;
  const [shownOf, setShownOf] = useState({ at, time });
  if (!isOld && (shownOf.at !== at || shownOf.time !== time)) setShownOf({ at, time });
  const [wanted, setWanted] = useState<number | null>(null);
  const [speed, setSpeed] = useState(10);
  const [isPlaying, setPlaying] = useState(false);
  const isBusy = useIsFetching() > 0;
  const shown = wanted ?? at ?? last;
  useEffect(() => {
    if (wanted === null) return undefined;
    const timer = setTimeout(() => {
      go(addressWith({ at: String(wanted) }), true);
      setWanted(null);
    }, PAUSE_MS);
    return () => clearTimeout(timer);
  }, [wanted]);
  useEffect(() => {
    if (!isPlaying || isBusy || wanted !== null || at === null) return undefined;
    const timer = setTimeout(() => {
      const next = Math.min(last, at + speed);
      if (next >= last) setPlaying(false);
      go(addressWith({ at: String(next) }), true);
    }, MOMENT_MS);
    return () => clearTimeout(timer);
  }, [isPlaying, isBusy, wanted, at, last, speed]);
  const play = (): void => {
    setPlaying(!isPlaying);
    if (!isPlaying && (at === null || at >= last)) setWanted(first);
  };
  const leave = (): void => {
    setPlaying(false);
    setWanted(null);
    go(addressWith({ at: null }));
  };
  return (
    <div className={at === null ? "travel" : "travel is-past"} data-testid="travel">
      {at !== null && (
        <p role="status" data-testid="past-note">
          <Moment {...shownOf} />
          {isOld && <span className="travel-reading">Reading sequence {grouped(at)}… </span>}
          <button type="button" data-testid="back-to-live" onClick={leave}>
            Back to live
          </button>
        </p>
      )}
      <TravelControls
        label="Time travel"
        first={first}
        last={last}
        shown={shown}
        valueText={`sequence ${shown}`}
        speed={speed}
        isPlaying={isPlaying}
        mayPlay={isReady}
        seek={setWanted}
        setSpeed={setSpeed}
        play={play}
      />
    </div>
  );
}

function Moment({ at, time }: { at: number | null; time: number }) {
  if (at === null) return null;
  const when = time > 0 ? `, ${localTime(new Date(time).toISOString())}` : "";
  return `As of sequence ${grouped(at)}${when}. Nothing here moves. `;
}
