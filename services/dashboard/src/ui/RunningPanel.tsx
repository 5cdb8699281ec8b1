/** Every live batch with its progress, and the way to stop it. */

import { memo, useState } from "react";

import type { BatchView } from "../contract";
import { useBatch, useLiveIds, useNow } from "../live/hooks";
import { useWorld, type World } from "../live/world";
import { stopExactly } from "../stopping";
import { batchDuration, duration, grouped, money, paceWords, plural, tokens, waitsFor } from "../words";
import { Confirm, Later } from "./later";
import { BatchLink } from "./Link";
import { Foreign, ModelName, ProgressBar, StateChip } from "./parts";
import { StopButton, StopError } from "./StopButton";

/** From this many on, rows are as low as they can be. */
const DENSE_FROM = 13;

export function RunningPanel() {
  const ids = useLiveIds();
  const isPast = useWorld().at !== null;
  // The list as it was when asked, so that the answer stops exactly what was counted.
  const [asked, setAsked] = useState<readonly string[] | null>(null);
  if (ids.length === 0 && !asked) return null;
  return (
    <section className="card running" data-testid="running-panel" aria-labelledby="running-title">
      <header className="card-head">
        <h2 id="running-title">
          {plural(ids.length, "batch", "batches")} {isPast ? "were running" : "running"}
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
          <BatchRow key={id} id={id} />
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

const BatchRow = memo(function BatchRow({ id }: { id: string }) {
  const batch = useBatch(id);
  if (!batch) return null;
  const { generated, failed } = batch.counts;
  return (
    <li
      className={batch.stuck ? "batch-row is-stuck" : "batch-row"}
      data-testid="batch-row"
      data-batch={id}
    >
      <div className="batch-name">
        <BatchLink id={id} />
        <ModelName batch={batch} />
        {batch.state !== "running" && <StateChip state={batch.state} />}
        {batch.stuck && <span className="tag tag-stuck">stuck</span>}
        {batch.held_up && <span className="tag tag-stuck">{batch.held_up.kind}</span>}
      </div>
      <ProgressBar batch={batch} />
      <div className="facts">
        <span data-testid="progress">
          <b>{grouped(generated)}</b> / {plural(batch.target, "sample")}
        </span>
        <span data-testid="failed" className={failed ? "is-bad" : undefined}>
          {grouped(failed)} failed
        </span>
        <span data-testid="tokens">{plural(tokens(batch.counts), "token")}</span>
        <span data-testid="cost" title="Cost of all attempts; — means that no price is known">
          {money(batch.counts.cost_nano_usd)}
        </span>
        <Ticking batch={batch} />
      </div>
      <StopButton batch={batch} />
      {batch.held_up && <HeldUp batch={batch} />}
      <StopError id={id} />
    </li>
  );
});

/** What a batch waits for, until when. */
export function HeldUp({ batch }: { batch: BatchView }) {
  const words = waitsFor(batch, useNow());
  if (!words) return null;
  return (
    <p className="held-up" data-testid="held-up">
      <Foreign>{words}</Foreign>
    </p>
  );
}

/** The facts that move with the clock alone. */
export function Ticking({ batch }: { batch: BatchView }) {
  const world = useWorld();
  const now = useNow();
  return (
    <>
      <span data-testid="duration">{batchDuration(batch, now)}</span>
      <Speed batch={batch} now={now} />
      <span data-testid="last-sample" className="last-sample">
        {lastSample(world, batch, now)}
      </span>
    </>
  );
}

/** How fast a running batch goes, and how long what is left takes at that. */
function Speed({ batch, now }: { batch: BatchView; now: number }) {
  const perSecond = useWorld().store.perSecond(batch, now);
  if (batch.state !== "running" || perSecond === null) return null;
  return (
    <>
      <span data-testid="rate" title="Samples made, over the last minute">
        {paceWords(perSecond)}
      </span>
      {perSecond > 0 && (
        <span data-testid="eta" title="At this rate">
          about {duration((1000 * batch.counts.pending) / perSecond)} left
        </span>
      )}
    </>
  );
}

function lastSample({ store }: World, batch: BatchView, now: number): string {
  if (batch.state === "queued") return "waiting for a worker";
  if (batch.counts.generated === 0) return "no sample yet";
  const at = store.lastSampleAt(batch.id);
  if (at) return `last sample ${duration(now - Date.parse(at))} ago`;
  if (!batch.last_progress_at) return "";
  return `last answer ${duration(now - Date.parse(batch.last_progress_at))} ago`;
}
