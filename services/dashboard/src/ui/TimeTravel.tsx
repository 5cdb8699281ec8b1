/** The batch as it was at a sequence: a slider over its life, and the way back to the present. */

import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";

import { getBatch, getEvents } from "../calls";
import type { BatchView } from "../contract";
import { addressWith, go } from "../place";
import { localTime } from "../words";

const PAUSE_MS = 120;

export function TimeTravel(props: {
  batch: BatchView;
  at: number | null;
  newest: number | undefined;
  time: number;
}) {
  const { batch, at, time } = props;
  const begin = useQuery({
    queryKey: ["batch", batch.id, "begin"],
    queryFn: ({ signal }) => getEvents(batch, { after: 0, limit: 1 }, null, signal),
    staleTime: Infinity,
  });
  const present = useQuery({
    queryKey: ["batch", batch.id, "view", null],
    queryFn: ({ signal }) => getBatch(batch.id, undefined, signal),
    enabled: at !== null && props.newest === undefined,
  });
  const first = begin.data?.events[0]?.sequence ?? batch.sequence;
  const [last, setLast] = useState(batch.sequence);
  const [wanted, setWanted] = useState<number | null>(null);
  const newest = props.newest ?? present.data?.batch.sequence ?? 0;
  const end = Math.max(newest, batch.sequence, at ?? 0);
  if (end > last) setLast(end);
  useEffect(() => {
    if (wanted === null) return undefined;
    const timer = setTimeout(() => {
      go(addressWith({ at: String(wanted) }), true);
      setWanted(null);
    }, PAUSE_MS);
    return () => clearTimeout(timer);
  }, [wanted]);
  const shown = wanted ?? at ?? last;
  return (
    <div className={at === null ? "travel" : "travel is-past"} data-testid="travel">
      {at !== null && (
        <p role="status" data-testid="past-note">
          As of sequence {at.toLocaleString("en-US")}, {localTime(new Date(time).toISOString())}.
          Nothing here moves.{" "}
          <button type="button" data-testid="back-to-live" onClick={() => go(addressWith({ at: null }))}>
            Back to live
          </button>
        </p>
      )}
      <label>
        Time travel{" "}
        <input
          type="range"
          data-testid="slider"
          min={Math.min(first, shown)}
          max={last}
          value={shown}
          aria-valuetext={`sequence ${shown}`}
          onChange={(event) => setWanted(event.target.valueAsNumber)}
        />
      </label>
      <button type="button" onClick={() => setWanted(Math.max(first, shown - 1))}>
        Step back
      </button>
      <button type="button" onClick={() => setWanted(Math.min(last, shown + 1))}>
        Step on
      </button>
    </div>
  );
}
