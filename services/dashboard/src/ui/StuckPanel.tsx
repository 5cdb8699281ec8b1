/** Batches that a watchdog holds for stuck: why, since when, what to do. */

import { useState } from "react";

import type { BatchView } from "../contract";
import { useBatch, useNow, useStuckIds } from "../live/hooks";
import { useWorld } from "../live/world";
import { stopExactly } from "../stopping";
import { duration, grouped, localTime, plural } from "../words";
import { Icon } from "./Icon";
import { BatchLink } from "./Link";
import { Foreign, ModelName, StateChip } from "./parts";
import { StopError } from "./StopButton";

export function StuckPanel() {
  const ids = useStuckIds();
  const isPast = useWorld().at !== null;
  const [isAsking, setAsking] = useState(false);
  const stopListed = (): void => {
    setAsking(true);
    void stopExactly(ids).finally(() => setAsking(false));
  };
  if (ids.length === 0) return null;
  return (
    <section
      className="card stuck"
      data-testid="stuck-panel"
      aria-labelledby="stuck-title"
    >
      <header className="card-head">
        <h2 id="stuck-title">
          <Icon name="warning" /> {plural(ids.length, "batch", "batches")} stuck
        </h2>
        {!isPast && (
          <button
            type="button"
            className="stop"
            data-testid="stop-stuck"
            disabled={isAsking}
            onClick={stopListed}
          >
            {ids.length === 1 ? "Stop this one" : `Stop these ${ids.length}`}
          </button>
        )}
      </header>
      <ul className="rows">
        {ids.map((id) => (
          <StuckRow key={id} id={id} />
        ))}
      </ul>
    </section>
  );
}

function StuckRow({ id }: { id: string }) {
  const batch = useBatch(id);
  if (!batch?.stuck) return null;
  const { cause, since, suggestion } = batch.stuck;
  return (
    <li className="stuck-row" data-testid="stuck-row" data-batch={id}>
      <div className="batch-name">
        <BatchLink id={id} />
        <ModelName batch={batch} />
        {batch.state !== "running" && <StateChip state={batch.state} />}
        <span>
          {grouped(batch.counts.generated)} / {plural(batch.target, "sample")}
        </span>
      </div>
      <p data-testid="stuck-cause">
        <Foreign>{cause}</Foreign>, since{" "}
        <time dateTime={since}>{localTime(since)}</time> (<Since batch={batch} />)
      </p>
      {suggestion && (
        <p className="muted" data-testid="stuck-suggestion">
          <Foreign>{suggestion}</Foreign>
        </p>
      )}
      {batch.last_error && (
        <p className="muted">
          Last error: <Foreign>{batch.last_error.message}</Foreign>
        </p>
      )}
      <StopError id={id} />
    </li>
  );
}

function Since({ batch }: { batch: BatchView }) {
  const now = useNow();
  return <>{duration(now - Date.parse(batch.stuck?.since ?? ""))}</>;
}
