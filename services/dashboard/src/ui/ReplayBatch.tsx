/** One batch of a replayed log, as of any of its events. */

import { Tabs } from "@base-ui/react/tabs";
import { memo, useEffect, useMemo, useState } from "react";

import type { BatchView } from "../contract";
import { pastWorld, WorldContext } from "../live/world";
import type { LogWorker } from "../replay/logWorker";
import type { Moment } from "../replay/log";
import { useSeeker } from "../replay/useReplay";
import { grouped, localTime, plural, tokens } from "../words";
import { BatchFacts } from "./BatchFacts";
import { Empty, Foreign, ModelName, ProgressBar, StateChip } from "./parts";
import { ReplayEvents, ReplaySamples } from "./ReplayParts";
import { TravelControls } from "./TravelControls";

/** A moment of a replay stands at least so long. */
const MOMENT_MS = 120;

export function ReplayBatch({ id, events, log }: { id: string; events: number; log: LogWorker }) {
  const { moment, wanted, words, seek } = useSeeker(log, id, events);
  return (
    <>
      <div className="travel">
        <Player last={events} wanted={wanted} shown={moment} seek={seek} />
        {moment && (
          <p data-testid="replay-moment" data-events={moment.events}>
            After event {grouped(moment.events)} of {grouped(events)}:{" "}
            <b>{moment.type}</b>, sequence {grouped(moment.sequence)},{" "}
            <time dateTime={moment.storedAt}>{localTime(moment.storedAt)}</time>
          </p>
        )}
      </div>
      {words !== null && (
        <p className="row-error" role="alert">
          <Foreign>{words}</Foreign>
        </p>
      )}
      {moment && <Shown id={id} moment={moment} log={log} />}
    </>
  );
}

function Player(props: {
  last: number;
  wanted: number;
  shown: Moment | null;
  seek(events: number): void;
}) {
  const { last, wanted, shown, seek } = props;
  const [speed, setSpeed] = useState(1);
  const [isPlaying, setPlaying] = useState(false);
  useEffect(() => {
    if (!isPlaying || shown?.events !== wanted) return undefined;
    const timer = setTimeout(() => {
      const next = Math.min(last, wanted + speed);
      if (next >= last) setPlaying(false);
      seek(next);
    }, MOMENT_MS);
    return () => clearTimeout(timer);
  }, [isPlaying, shown, wanted, last, speed, seek]);
  const play = (): void => {
    setPlaying(!isPlaying);
    if (!isPlaying && wanted >= last) seek(1);
  };
  return (
    <TravelControls
      label="Event"
      first={1}
      last={last}
      shown={wanted}
      valueText={`event ${wanted} of ${last}`}
      speed={speed}
      isPlaying={isPlaying}
      mayPlay
      seek={seek}
      setSpeed={setSpeed}
      play={play}
    />
  );
}

/** Drawn once a moment: moving the slider draws it no second time. */
const Shown = memo(function Shown(props: { id: string; moment: Moment; log: LogWorker }) {
  const { id, moment, log } = props;
  const { view, sequence, storedAt } = moment;
  // The fold keeps the seed exactly; what is drawn is a plain number.
  const batch = useMemo(
    () => (view && ({ ...view, seed: Number(view["seed"]) } as unknown as BatchView)),
    [view],
  );
  const world = useMemo(
    () => (batch ? pastWorld([batch], sequence, Date.parse(storedAt)) : null),
    [batch, sequence, storedAt],
  );
  if (!batch || !world) return <Empty>The batch has not begun yet. Step on.</Empty>;
  return (
    <WorldContext value={world}>
      <header className="card-head">
        <h2 className="mono batch-link">
          <Foreign>{id}</Foreign>
        </h2>
        <StateChip state={batch.state} />
      </header>
      <div className="facts">
        <span data-testid="details-progress">
          <b>{grouped(batch.counts.generated)}</b> / {plural(batch.target, "sample")}
        </span>
        {batch.counts.failed > 0 && <span className="is-bad">{grouped(batch.counts.failed)} failed</span>}
        <span>{plural(tokens(batch.counts), "token")}</span>
        <ModelName batch={batch} />
      </div>
      <ProgressBar batch={batch} />
      <Tabs.Root defaultValue="details" className="tabs">
        <Tabs.List className="tab-list">
          <Tabs.Tab value="details">Details</Tabs.Tab>
          <Tabs.Tab value="samples" data-testid="tab-samples">
            Samples ({grouped(moment.samples)})
          </Tabs.Tab>
          <Tabs.Tab value="events" data-testid="tab-events">
            Events ({grouped(moment.events)})
          </Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="details" className="tab-panel">
          <BatchFacts batch={batch} />
        </Tabs.Panel>
        <Tabs.Panel value="samples" className="tab-panel">
          <ReplaySamples id={id} count={moment.samples} until={moment.events} log={log} />
        </Tabs.Panel>
        <Tabs.Panel value="events" className="tab-panel">
          <ReplayEvents id={id} count={moment.events} until={moment.events} log={log} />
        </Tabs.Panel>
      </Tabs.Root>
    </WorldContext>
  );
});
