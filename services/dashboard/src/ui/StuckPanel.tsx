/** Batches that a watchdog holds for stuck: why, since when, what to do. */

import { useState } from "react";

import type { BatchView, StuckFinding } from "../contract";
import { useSteady, useStuckIds } from "../live/hooks";
import { useWorld } from "../live/world";
import { batchAddress } from "../place";
import { stopExactly } from "../stopping";
import { duration, grouped, localTime, plural } from "../words";
import { Icon } from "./Icon";
import { BatchLink, Link } from "./Link";
import { ticking, useMoving, writeGenerated } from "./moving";
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
            {ids.length === 1 ? "Stop this one" : `Stop these ${grouped(ids.length)}`}
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
  const batch = useSteady(id, undefined);
  return batch?.stuck ? <Row batch={batch} finding={batch.stuck} /> : null;
}

function Row({ batch, finding }: { batch: BatchView; finding: StuckFinding }) {
  const { id } = batch;
  const { cause, since, suggestion } = finding;
  const { at } = useWorld();
  const moves = useMoving(batch, undefined);
  return (
    <li className="stuck-row" data-testid="stuck-row" data-batch={id}>
      <div className="batch-name">
        <BatchLink id={id} />
        <ModelName batch={batch} />
        {batch.state !== "running" && <StateChip state={batch.state} />}
        <span>
          <span ref={moves(writeGenerated)} /> / {plural(batch.target, "sample")}
        </span>
        <Link to={batchAddress(id, at, "events")} testid="stuck-events">
          Events
        </Link>
      </div>
      <p data-testid="stuck-cause">
        <Foreign>{cause}</Foreign>, since{" "}
        <time dateTime={since}>{localTime(since)}</time> (by now <span ref={moves(writeStuckFor)} />)
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

const writeStuckFor = ticking(({ batch, now }) =>
  batch.stuck ? duration(now - Date.parse(batch.stuck.since)) : "",
);
