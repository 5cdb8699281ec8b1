/** The stored events of one batch, in the order of the log, each with its payload as stored. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useEffect, useRef, useState } from "react";

import "../styles/events.css";
import { getEvents } from "../calls";
import { isLive, type BatchView, type EventView } from "../contract";
import { findEvents, PAGE, typesIn, whoOf, type FoundEvents } from "../events";
import { addressWith, go, useAt, useParameter } from "../place";
import { grouped, localTime, wordsOf } from "../words";
import { EventTypes } from "./EventTypes";
import { Empty, Foreign, Pager, Trouble } from "./parts";

const BatchLanes = lazy(() =>
  import("./BatchLanes").then((file) => ({ default: file.BatchLanes })),
);
const REFRESH_MS = 2_000;

export function BatchEvents({ batch }: { batch: BatchView }) {
  const [named, setNamed] = useParameter("type");
  const [start] = useParameter("from");
  const from = /^[1-9]\d{0,14}$/.test(start) ? Number(start) : null;
  const types = typesIn(named);
  return (
    <>
      <Suspense fallback={<section className="lanes" />}>
        <BatchLanes batch={batch} />
      </Suspense>
      {from !== null && <From sequence={from} />}
      <EventTypes chosen={types} choose={(chosen) => setNamed(chosen.join(","))} />
      <Pages key={`${types.join(",")} ${from}`} batch={batch} types={types} from={from} />
    </>
  );
}

/** What the list begins with, and the ways on from there. */
function From({ sequence }: { sequence: number }) {
  return (
    <p className="events-from" data-testid="events-from">
      From event {grouped(sequence)} on.
      <button
        type="button"
        data-testid="events-from-travel"
        onClick={() => go(addressWith({ at: String(sequence) }))}
      >
        See the batch as of it
      </button>
      <button
        type="button"
        data-testid="events-from-all"
        onClick={() => go(addressWith({ from: null }))}
      >
        From the first event on
      </button>
    </p>
  );
}

/** The events of some types, or of all where none is named, page by page. */
function Pages(props: { batch: BatchView; types: readonly string[]; from: number | null }) {
  const { batch, types, from } = props;
  const [starts, setStarts] = useState<readonly number[]>([]);
  const begin = from === null ? 0 : from - 1;
  const after = starts.at(-1) ?? begin;
  const at = useAt();
  const isMoving = at === null && isLive(batch.state);
  const page = useQuery({
    queryKey: ["batch", batch.id, "events", types, isLive(batch.state), after, at],
    queryFn: ({ signal }) =>
      findEvents(
        (next, limit) => getEvents(batch, { after: next, limit, type: types }, at, signal),
        after,
      ),
    placeholderData: keepPreviousData,
    // What took long to find is looked for less often.
    refetchInterval: ({ state }) => isMoving && REFRESH_MS * (state.data?.steps ?? 1),
  });
  const { events = [], next = null } = page.data ?? {};
  return (
    <>
      {page.error && (
        <Trouble
          what="The events could not be read"
          words={wordsOf(page.error)}
          retry={() => void page.refetch()}
        />
      )}
      {page.isPending && <Empty>Reading the events…</Empty>}
      {page.data && <Lack found={page.data} isChosen={types.length > 0} isFirst={after === begin} />}
      <ol className="events">
        {events.map((view) => (
          <StoredEvent key={view.sequence} view={view} isWanted={view.sequence === from} />
        ))}
      </ol>
      <Pager
        page={starts.length}
        label="Pages of events"
        hasNext={next !== null}
        onPrevious={() => setStarts(starts.slice(0, -1))}
        onNext={() => next !== null && setStarts([...starts, next])}
      />
    </>
  );
}

/** Why a page holds less than it could. */
function Lack(props: { found: FoundEvents; isChosen: boolean; isFirst: boolean }) {
  const { events, next } = props.found;
  if (next !== null && events.length < PAGE) {
    return (
      <Empty testid="events-lack">
        {`Looked through the log up to event ${grouped(next)}. Next looks on from there.`}
      </Empty>
    );
  }
  if (events.length > 0) return null;
  if (!props.isFirst) return <Empty testid="events-lack">No more events.</Empty>;
  return (
    <Empty testid="events-lack">
      {props.isChosen
        ? "The batch has no event of these types."
        : "No event here yet. They show as soon as the projector has read them."}
    </Empty>
  );
}

/** One event, with its payload behind a click; one that was asked for takes the focus. */
export function StoredEvent(props: { view: EventView; isWanted?: boolean }) {
  const { view, isWanted = false } = props;
  const [isOpen, setOpen] = useState(false);
  const summary = useRef<HTMLElement>(null);
  useEffect(() => {
    if (isWanted) summary.current?.focus();
  }, [isWanted]);
  const { type, slot, message, reason } = view.event;
  const who = whoOf(view.event);
  const note = [message, reason].find((words) => typeof words === "string" && words !== "");
  return (
    <li>
      <details data-testid="event" onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary ref={summary}>
          <span className="mono muted">{view.sequence}</span>
          <b>{typeof type === "string" ? type : "unknown type"}</b>
          {typeof slot === "number" && <span className="muted">slot {slot}</span>}
          <time className="muted" dateTime={view.stored_at}>
            {localTime(view.stored_at)}
          </time>
          {who && <Foreign>{who}</Foreign>}
          {typeof note === "string" && <Foreign>{note}</Foreign>}
        </summary>
        {isOpen && (
          <pre className="long-text" tabIndex={0}>
            <Foreign>{JSON.stringify(view.event, null, 2)}</Foreign>
          </pre>
        )}
      </details>
    </li>
  );
}
