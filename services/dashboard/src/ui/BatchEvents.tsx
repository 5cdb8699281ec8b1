/** The stored events of one batch, in the order of the log, each with its payload as stored. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";

import "../styles/events.css";
import { getEvents } from "../calls";
import { isLive, type BatchView, type EventView } from "../contract";
import { findEvents, PAGE, typesIn, whoOf, type FoundEvents } from "../events";
import { useAt, useParameter } from "../place";
import { grouped, localTime, wordsOf } from "../words";
import { EventTypes } from "./EventTypes";
import { Empty, Foreign, Pager, Trouble } from "./parts";

const REFRESH_MS = 2_000;

export function BatchEvents({ batch }: { batch: BatchView }) {
  const [named, setNamed] = useParameter("type");
  const types = typesIn(named);
  return (
    <>
      <EventTypes chosen={types} choose={(chosen) => setNamed(chosen.join(","))} />
      <Pages key={types.join(",")} batch={batch} types={types} />
    </>
  );
}

/** The events of some types, or of all where none is named, page by page. */
function Pages({ batch, types }: { batch: BatchView; types: readonly string[] }) {
  const [starts, setStarts] = useState<readonly number[]>([]);
  const after = starts.at(-1) ?? 0;
  const at = useAt();
  const isMoving = at === null && isLive(batch.state);
  const page = useQuery({
    queryKey: ["batch", batch.id, "events", types, isLive(batch.state), after, at],
    queryFn: ({ signal }) =>
      findEvents(
        (from, limit) => getEvents(batch, { after: from, limit, type: types }, at, signal),
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
      {page.data && <Lack found={page.data} isChosen={types.length > 0} isFirst={after === 0} />}
      <ol className="events">
        {events.map((view) => (
          <StoredEvent key={view.sequence} view={view} />
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

/** One event, with its payload behind a click. */
export function StoredEvent({ view }: { view: EventView }) {
  const [isOpen, setOpen] = useState(false);
  const { type, slot, message, reason } = view.event;
  const who = whoOf(view.event);
  const note = [message, reason].find((words) => typeof words === "string" && words !== "");
  return (
    <li>
      <details data-testid="event" onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary>
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
