/** Who worked on a batch when: a lane for each node or model; a table tells the same in words. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { memo, useDeferredValue, useState } from "react";

import "../styles/lanes.css";
import { getLanes } from "../calls";
import { isLive, type BatchView } from "../contract";
import {
  bucketsOf,
  countOf,
  laneKey,
  legendOf,
  mostOf,
  sharing,
  type Lane,
  type LaneKind,
  type Lanes,
} from "../lanes";
import { addressWith, go, useAt, useParameter } from "../place";
import { duration, grouped, localTime, plural, wordsOf } from "../words";
import { LaneRows, Shape } from "./LaneRows";
import { Empty, Foreign, Trouble } from "./parts";

const REFRESH_MS = 2_000;
/** What the table tells of each lane; what none has is left out. */
const COLUMNS: readonly [words: string, kinds: readonly LaneKind[]][] = [
  ["Made", ["made"]],
  ["Lost", ["lost"]],
  ["Given up", ["failed"]],
  ["Cut off", ["abandoned"]],
  ["Late", ["late"]],
  ["Claims", ["claimed", "rescued"]],
  ["Of them rescues", ["rescued"]],
  ["Released", ["released"]],
  ["Trials", ["trial"]],
  ["Closed", ["closed"]],
  ["Commands", ["command"]],
  ["Stops, ends", ["stop"]],
  ["Notes", ["note"]],
];
/** So many lanes are asked for at first, and as many as there are after a click. */
const FEW = 12;
const MOST = 40;

export function BatchLanes({ batch }: { batch: BatchView }) {
  const [named, setBy] = useParameter("by", "node");
  const by = named === "model" ? "model" : "node";
  const at = useAt();
  const [limit, setLimit] = useState(FEW);
  const answer = useQuery({
    queryKey: ["batch", batch.id, "lanes", by, limit, isLive(batch.state), at],
    queryFn: ({ signal }) => getLanes(batch, { by, limit }, at, signal),
    placeholderData: keepPreviousData,
    structuralSharing: (old, fresh) => sharing(old as Lanes | undefined, fresh as Lanes),
    refetchInterval: at === null && isLive(batch.state) && REFRESH_MS,
  });
  // Drawn in pieces, between which the page answers: a busy batch's lanes all change at once.
  const found = useDeferredValue(answer.data);
  return (
    <section className="lanes" aria-labelledby="lanes-title" data-testid="lanes" data-by={by}>
      <header>
        <h2 id="lanes-title">Who worked when</h2>
        <label>
          A lane for each{" "}
          <select
            data-testid="lanes-by"
            value={by}
            onChange={(event) => setBy(event.target.value)}
          >
            <option value="node">node</option>
            <option value="model">model</option>
          </select>
        </label>
      </header>
      {answer.error && (
        <Trouble
          what="The lanes could not be read"
          words={wordsOf(answer.error)}
          retry={() => void answer.refetch()}
        />
      )}
      {answer.isPending && <Empty>Reading the lanes…</Empty>}
      {found && <Shown found={found} more={limit === FEW ? () => setLimit(MOST) : null} />}
    </section>
  );
}

/** To the events from one of them on, whatever types were chosen. */
const show = (sequence: number): void =>
  go(addressWith({ from: String(sequence), type: null }));

const Shown = memo(function Shown(props: { found: Lanes; more: (() => void) | null }) {
  const { found, more } = props;
  const span = Date.parse(found.end) - Date.parse(found.start);
  const middle = new Date(Date.parse(found.start) + span / 2).toISOString();
  return (
    <>
      <LaneRows
        lanes={found.lanes}
        buckets={bucketsOf(found)}
        most={mostOf(found.lanes)}
        show={show}
      />
      <p className="lane-times muted">
        {[found.start, middle, found.end].map((time) => (
          <time key={time} dateTime={time}>
            {localTime(time)}
          </time>
        ))}
      </p>
      {found.lanes.length < 2 && (
        <Empty>
          {found.by === "node"
            ? "No node has worked on this batch yet."
            : "No call to a model has ended yet."}
        </Empty>
      )}
      {found.left_out > 0 && (
        <p className="muted">
          {plural(found.left_out, "lane")} with fewer events {found.left_out === 1 ? "is" : "are"}{" "}
          left out.{" "}
          {more && (
            <button type="button" className="link" data-testid="lanes-more" onClick={more}>
              Show more
            </button>
          )}
        </p>
      )}
      <Legend found={found} />
      <Table lanes={found.lanes} by={found.by} />
    </>
  );
});

function Legend({ found }: { found: Lanes }) {
  const most = mostOf(found.lanes);
  return (
    <>
      <p className="lane-legend" data-testid="lanes-legend">
        {most > 0 && (
          <>
            <span>
              <i className="swatch swatch-made" /> samples made
            </span>
            {found.lanes.some(({ marks }) => marks.lost) && (
              <span>
                <i className="swatch swatch-lost" /> calls lost, on top
              </span>
            )}
          </>
        )}
        <span>
          <i className="swatch swatch-claimed" /> slices claimed, beneath the line
        </span>
        {legendOf(found.lanes).map(([kind, words]) => (
          <span key={kind}>
            <Shape kind={kind} /> {words}
          </span>
        ))}
      </p>
      <p className="muted">
        {`${most > 0 ? `A bar is ${bucketWords(found.bucket_ms)}; the highest stands for ${plural(most, "call")}. ` : ""}Marks closer than a finger's width are one, with their number; each leads to its first event.`}
      </p>
    </>
  );
}

function bucketWords(ms: number): string {
  return ms < 1_000 ? `${grouped(ms)} ms` : duration(ms);
}

function Table({ lanes, by }: { lanes: readonly Lane[]; by: Lanes["by"] }) {
  const columns = COLUMNS.filter(
    ([, kinds]) => kinds.includes("made") || lanes.some((lane) => kinds.some((kind) => lane.marks[kind])),
  );
  return (
    <details>
      <summary>The same as a table</summary>
      <div className="table-scroll" tabIndex={0} role="region" aria-label="The lanes as a table">
        <table data-testid="lanes-table">
          <thead>
            <tr>
              <th scope="col">{by === "node" ? "Node" : "Model"}</th>
              <th scope="col">From</th>
              <th scope="col">To</th>
              {columns.map(([words]) => (
                <th key={words} scope="col" className="number">
                  {words}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {lanes.map((lane) => (
              <tr key={laneKey(lane)}>
                <th scope="row">{lane.name === null ? "The batch" : <Foreign>{lane.name}</Foreign>}</th>
                <td>{localTime(lane.first)}</td>
                <td>{localTime(lane.last)}</td>
                {columns.map(([words, kinds]) => (
                  <td key={words} className="number">
                    {grouped(kinds.reduce((sum, kind) => sum + countOf(lane, kind), 0))}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}
