/** Batches that a watchdog holds for stuck: why, since when, what to do. */

import { useState } from "react";

import { isLive, type BatchView, type StuckFinding } from "../contract";
import { useSteady, useStuckIds } from "../live/hooks";
import { useWorld } from "../live/world";
import { batchAddress } from "../place";
import { stopExactly } from "../stopping";
import { useWaits, waitMore, waitNoMore, type Wait } from "../waits";
import { duration, grouped, localTime, plural } from "../words";
import { Icon } from "./Icon";
import { BatchLink, Link } from "./Link";
import { ticking, useMoving, writeGenerated, type Moves } from "./moving";
import { Foreign, ModelName, StateChip } from "./parts";
import { StopError } from "./StopButton";

/** So much of an error a cause quotes at least, if it does: it may be cut off at its end. */
const QUOTED = 200;

export function StuckPanel() {
  const ids = useStuckIds();
  const { store, at } = useWorld();
  const isPast = at !== null;
  const waits = useWaits();
  const others = ids.filter((id) => waitsUntil(waits.get(id), store.get(id)?.stuck) === undefined);
  const [isAsking, setAsking] = useState(false);
  const stopOthers = (): void => {
    setAsking(true);
    void stopExactly(others).finally(() => setAsking(false));
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
        {!isPast && others.length > 0 && (
          <button
            type="button"
            className="stop"
            data-testid="stop-stuck"
            disabled={isAsking}
            onClick={stopOthers}
          >
            {stopWords(others.length, ids.length)}
          </button>
        )}
      </header>
      <ul className="rows">
        {ids.map((id) => (
          <StuckRow key={id} id={id} wait={isPast ? undefined : waits.get(id)} />
        ))}
      </ul>
    </section>
  );
}

function stopWords(count: number, all: number): string {
  if (count === 1) return all === 1 ? "Stop this one" : "Stop the other one";
  return `Stop ${count === all ? "these" : "the other"} ${grouped(count)}`;
}

/** Until when is waited (ms), unless another rule has found the batch since. */
function waitsUntil(wait: Wait | undefined, finding: StuckFinding | null | undefined) {
  return wait?.rule === finding?.rule ? wait?.until : undefined;
}

interface RowProps {
  wait: Wait | undefined;
}

function StuckRow({ id, wait }: { id: string } & RowProps) {
  const batch = useSteady(id, undefined);
  return batch?.stuck ? <Row batch={batch} finding={batch.stuck} wait={wait} /> : null;
}

function Row({ batch, finding, wait }: { batch: BatchView; finding: StuckFinding } & RowProps) {
  const { id, last_error } = batch;
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
      <Finding finding={finding} moves={moves} />
      {last_error && !finding.cause.includes(last_error.message.slice(0, QUOTED)) && (
        <p className="muted" data-testid="stuck-error">
          Last error: <Foreign>{last_error.message}</Foreign>
        </p>
      )}
      {at === null && <Waiting id={id} rule={finding.rule} until={waitsUntil(wait, finding)} />}
      <StopError id={id} />
    </li>
  );
}

/** Why a batch is held for stuck, since when, and what to do. */
function Finding({ finding, moves }: { finding: StuckFinding; moves: Moves }) {
  const { cause, since, suggestion } = finding;
  return (
    <>
      <p data-testid="stuck-cause">
        <Foreign>{cause}</Foreign>, since{" "}
        <time dateTime={since}>{localTime(since)}</time> (by now <span ref={moves(writeStuckFor)} />)
      </p>
      {suggestion && (
        <p className="muted" data-testid="stuck-suggestion">
          <Foreign>{suggestion}</Foreign>
        </p>
      )}
    </>
  );
}

/** On a batch's own page: that it is stuck, as it stands on the hub. */
export function StuckNote({ batch }: { batch: BatchView }) {
  const { at } = useWorld();
  const waits = useWaits();
  const moves = useMoving(batch, batch);
  const { id, stuck, state } = batch;
  if (!stuck || !isLive(state)) return null;
  return (
    <div className="stuck-note" role="status" data-testid="stuck-note">
      <p>
        <Icon name="warning" /> <b>{at === null ? "This batch is stuck." : "This batch was stuck then."}</b>
      </p>
      <Finding finding={stuck} moves={moves} />
      {at === null && <Waiting id={id} rule={stuck.rule} until={waitsUntil(waits.get(id), stuck)} />}
    </div>
  );
}

function Waiting({ id, rule, until }: { id: string; rule: string; until: number | undefined }) {
  const isWaiting = until !== undefined;
  const words = isWaiting ? "Undo" : "Wait 10 min more";
  return (
    <p className="stuck-wait">
      <span role="status" data-testid="stuck-waits">
        {isWaiting && `Waited for until ${localTime(new Date(until).toISOString())}`}
      </span>
      <button
        type="button"
        className="link"
        data-testid="stuck-wait"
        aria-label={`${words}: ${id}`}
        onClick={() => (isWaiting ? waitNoMore(id) : waitMore(id, rule))}
      >
        {words}
      </button>
    </p>
  );
}

const writeStuckFor = ticking(({ batch, now }) =>
  batch.stuck ? duration(now - Date.parse(batch.stuck.since)) : "",
);
