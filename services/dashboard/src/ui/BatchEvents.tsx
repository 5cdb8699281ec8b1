/** The stored events of one batch, in the order of the log, each with its payload as stored. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { getEvents } from "../calls";
import { isLive, type BatchView, type EventView } from "../contract";
import { localTime, wordsOf } from "../words";
import { Empty, Foreign, Pager, Trouble } from "./parts";

const PAGE = 50;
const REFRESH_MS = 2_000;

export function BatchEvents({ batch }: { batch: BatchView }) {
  const [starts, setStarts] = useState<readonly number[]>([]);
  const after = starts.at(-1) ?? 0;
  const page = useQuery({
    queryKey: ["batch", batch.id, "events", isLive(batch.state), after],
    queryFn: ({ signal }) => getEvents(batch, { after, limit: PAGE }, signal),
    placeholderData: keepPreviousData,
    refetchInterval: isLive(batch.state) ? REFRESH_MS : false,
  });
  const events = page.data?.events ?? [];
  const last = events.at(-1)?.sequence;
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
      {page.data && events.length === 0 && (
        <Empty>No event here yet. They show as soon as the projector has read them.</Empty>
      )}
      <ol className="events">
        {events.map((view) => (
          <StoredEvent key={view.sequence} view={view} />
        ))}
      </ol>
      <Pager
        page={starts.length}
        label="Pages of events"
        hasNext={events.length === PAGE && last !== undefined}
        onPrevious={() => setStarts(starts.slice(0, -1))}
        onNext={() => last !== undefined && setStarts([...starts, last])}
      />
    </>
  );
}

function StoredEvent({ view }: { view: EventView }) {
  const [isOpen, setOpen] = useState(false);
  const { type, slot, message, reason } = view.event;
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
