/** The stored events of one batch, in the order of the log, each with its payload as stored. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { getEvents } from "../calls";
import { isLive, type BatchView, type EventView } from "../contract";
import { useAt, useParameter } from "../place";
import { grouped, localTime, plural, wordsOf } from "../words";
import { Empty, Foreign, Pager, Trouble } from "./parts";

const PAGE = 100;
const REFRESH_MS = 2_000;

export function BatchEvents({ batch }: { batch: BatchView }) {
  const [starts, setStarts] = useState<readonly number[]>([]);
  const after = starts.at(-1) ?? 0;
  const at = useAt();
  const [kind, setKind] = useParameter("type");
  const page = useQuery({
    queryKey: ["batch", batch.id, "events", isLive(batch.state), after, at],
    queryFn: ({ signal }) => getEvents(batch, { after, limit: PAGE }, at, signal),
    placeholderData: keepPreviousData,
    refetchInterval: at === null && isLive(batch.state) ? REFRESH_MS : false,
  });
  const events = page.data?.events ?? [];
  const last = events.at(-1)?.sequence;
  const shown = kind ? events.filter((view) => view.event["type"] === kind) : events;
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
      {page.data && events.length > 0 && (
        <KindFilter events={events} kind={kind} choose={setKind} />
      )}
      {events.length > 0 && shown.length === 0 && (
        <Empty>No event of this type on this page. Choose all types, or go to another page.</Empty>
      )}
      <ol className="events">
        {shown.map((view) => (
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

/** The types on this page of the log, each with its count. */
function KindFilter(props: {
  events: readonly EventView[];
  kind: string;
  choose(kind: string): void;
}) {
  const counts = new Map<string, number>();
  for (const { event } of props.events) {
    const type = String(event["type"]);
    counts.set(type, (counts.get(type) ?? 0) + 1);
  }
  if (props.kind && !counts.has(props.kind)) counts.set(props.kind, 0);
  return (
    <label className="slot-choice">
      Type{" "}
      <select
        data-testid="event-type"
        value={props.kind}
        onChange={(event) => props.choose(event.target.value)}
      >
        <option value="">all {plural(props.events.length, "event")} of this page</option>
        {[...counts].map(([type, count]) => (
          <option key={type} value={type}>
            {`${type} (${grouped(count)})`}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Who did it: a person, or a node. */
function whoOf(event: Record<string, unknown>): string | null {
  const { kind, id } = (event["actor"] ?? {}) as { kind?: unknown; id?: unknown };
  return typeof id === "string" ? `${String(kind)} ${id}` : null;
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
