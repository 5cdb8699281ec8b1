/** Every live batch with its progress, and the way to stop it. */

import { memo, useState } from "react";

import type { BatchView, State } from "../contract";
import { limitWords, type LimitedBy } from "../limited";
import { useLimit, useLiveCounts, useLiveIds, useNow, useSteady } from "../live/hooks";
import { COURSE_STEPS, courseLine } from "../live/pace";
import { useWorld } from "../live/world";
import { stopExactly } from "../stopping";
import {
  duration,
  grouped,
  nearlyUsed,
  paceWords,
  plural,
  tokens,
  waitsFor,
} from "../words";
import { Confirm, Later } from "./later";
import { BatchLink } from "./Link";
import {
  failing,
  following,
  ticking,
  useMoving,
  writeCost,
  writeDuration,
  writeGenerated,
  type Moment,
  type Moves,
  type Write,
} from "./moving";
import { Foreign, ModelName, ProgressBar, StateChip } from "./parts";
import { StopButton, StopError } from "./StopButton";

/** From this many on, rows are as low as they can be. */
const DENSE_FROM = 13;

export function RunningPanel() {
  const ids = useLiveIds();
  const counts = useLiveCounts();
  const isPast = useWorld().at !== null;
  // The list as it was when asked, so that the answer stops exactly what was counted.
  const [asked, setAsked] = useState<readonly string[] | null>(null);
  if (ids.length === 0 && !asked) return null;
  return (
    <section className="card running" data-testid="running-panel" aria-labelledby="running-title">
      <header className="card-head">
        <h2 id="running-title">
          {liveWords(counts, isPast)}
        </h2>
        {ids.length > 1 && !isPast && (
          <button
            type="button"
            className="stop"
            data-testid="stop-all"
            onClick={() => setAsked(ids)}
          >
            Stop all
          </button>
        )}
      </header>
      <ul className={ids.length >= DENSE_FROM ? "rows dense" : "rows"}>
        {ids.map((id) => (
          <BatchRow key={id} id={id} isDense={ids.length >= DENSE_FROM} />
        ))}
      </ul>
      <Later when={asked !== null}>
        <Confirm
          isOpen={asked !== null}
          title={`Stop ${plural(asked?.length ?? 0, "batch", "batches")}?`}
          action={`Stop ${asked?.length ?? 0}`}
          onClose={() => setAsked(null)}
          onConfirm={() => asked && void stopExactly(asked)}
        >
          Calls in flight are cancelled. Samples made so far are kept.
        </Confirm>
      </Later>
    </section>
  );
}

function liveWords({ running, paused }: { running: number; paused: number }, isPast: boolean): string {
  const were = isPast ? "were " : "";
  if (running === 0) return `${plural(paused, "batch", "batches")} ${were}paused`;
  const others = paused > 0 ? `, ${grouped(paused)} paused` : "";
  return `${plural(running, "batch", "batches")} ${were}running${others}`;
}

interface RowProps {
  id: string;
  isDense: boolean;
}

const BatchRow = memo(function BatchRow({ id, isDense }: RowProps) {
  const batch = useSteady(id, undefined);
  return batch ? <Row batch={batch} isDense={isDense} /> : null;
});

function Row({ batch, isDense }: { batch: BatchView; isDense: boolean }) {
  const { id, state } = batch;
  const moves = useMoving(batch, undefined);
  return (
    <li
      className={batch.stuck ? "batch-row is-stuck" : "batch-row"}
      data-testid="batch-row"
      data-batch={id}
    >
      <div className="batch-name">
        <BatchLink id={id} />
        <ModelName batch={batch} />
        {state !== "running" && <StateChip state={state} />}
        {batch.stuck && <span className="tag tag-stuck">stuck</span>}
        {batch.held_up && <span className="tag tag-stuck">{batch.held_up.kind}</span>}
        <BudgetTag batch={batch} />
      </div>
      <div>
        <ProgressBar batch={batch} moves={moves} />
      </div>
      <div>
        <div className="facts">
          <span data-testid="progress" className="fact-progress">
            <b ref={moves(writeGenerated)} /> / {plural(batch.target, "sample")}
          </span>
          <span data-testid="failed" ref={moves(writeFailed)} />
          <span data-testid="tokens" className="fact-tokens" ref={moves(writeTokens)} />
          <span
            data-testid="cost"
            title="Cost of all attempts; — means that no price is known"
            ref={moves(writeCost)}
          />
          <Ticking state={state} moves={moves} hasCourse={!isDense} />
        </div>
      </div>
      <StopButton batch={batch} />
      <Waits batch={batch} />
      <StopError id={id} />
    </li>
  );
}

/** That a budget of a live batch is nearly used. */
export function BudgetTag({ batch }: { batch: BatchView }) {
  const words = nearlyUsed(batch);
  if (!words) return null;
  return (
    <span className="tag tag-stuck" data-testid="budget-warned">
      {words}
    </span>
  );
}

/** What a batch waits for: a route in trouble, or else a limit that its route has. */
export function Waits({ batch }: { batch: BatchView }) {
  const limit = useLimit(batch);
  if (batch.held_up) return <HeldUp batch={batch} />;
  return limit ? <LimitNote limit={limit} /> : null;
}

/** That a batch runs as fast as its route's limit lets it: no trouble, but the reason. */
function LimitNote({ limit }: { limit: LimitedBy }) {
  return (
    <p className="held-up muted" data-testid="limited">
      <Foreign>{limitWords(limit, useNow())}</Foreign>
    </p>
  );
}

/** Until when a route holds a batch up, and why. */
function HeldUp({ batch }: { batch: BatchView }) {
  const words = waitsFor(batch, useNow());
  if (!words) return null;
  return (
    <p className="held-up" data-testid="held-up">
      <Foreign>{words}</Foreign>
    </p>
  );
}

/** The facts that move with the clock too. */
export function Ticking(props: { state: State; moves: Moves; hasCourse: boolean }) {
  const { state, moves, hasCourse } = props;
  return (
    <>
      <span data-testid="duration" ref={moves(writeDuration)} />
      {state === "running" && (
        <>
          <span data-testid="rate" title="Samples made, over the last minute" ref={moves(writeRate)} />
          {hasCourse && <Course moves={moves} />}
          <span data-testid="eta" className="fact-eta" title="At this rate" ref={moves(writeEta)} />
        </>
      )}
      <span data-testid="last-sample" className="last-sample" ref={moves(writeLastSample)} />
    </>
  );
}

/** The rate over the last minute as a line; the words beside it tell the same. */
function Course({ moves }: { moves: Moves }) {
  return (
    <span className="course" data-testid="rate-course" aria-hidden="true" ref={moves(writeCourse)}>
      <svg viewBox={`0 0 ${COURSE_STEPS - 1} 1`} preserveAspectRatio="none">
        <polyline vectorEffect="non-scaling-stroke" />
      </svg>
    </span>
  );
}

/** Moves when a step of the minute is over, and in one jump: nothing here is animated. */
const writeCourse: Write = (element, { batch, now, isTick, store }) => {
  if (!isTick) return;
  const points = courseLine(store.pace.course(batch, now));
  const line = element.firstElementChild?.firstElementChild;
  if (line?.getAttribute("points") === points) return;
  line?.setAttribute("points", points);
  element.hidden = points === "";
};

const writeFailed = failing((failed) => `${grouped(failed)} failed`);
const writeTokens = following(({ batch }) => plural(tokens(batch.counts), "token"));
const writeRate = ticking((moment) => {
  const perSecond = paceOf(moment);
  return perSecond === null ? "" : paceWords(perSecond);
});
const writeEta = ticking((moment) => {
  const perSecond = paceOf(moment);
  if (!perSecond) return "";
  return `about ${duration((1000 * moment.batch.counts.pending) / perSecond)} left`;
});
const writeLastSample = following(lastSample);

function paceOf({ batch, now, store }: Moment): number | null {
  return store.pace.perSecond(batch, now);
}

function lastSample({ batch, now, store }: Moment): string {
  if (batch.state === "queued") return "waiting for a worker";
  if (batch.counts.generated === 0) return "no sample yet";
  const at = store.lastSampleAt(batch.id);
  if (at) return `last sample ${duration(now - Date.parse(at))} ago`;
  if (!batch.last_progress_at) return "";
  return `last answer ${duration(now - Date.parse(batch.last_progress_at))} ago`;
}
