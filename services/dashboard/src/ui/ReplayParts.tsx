/** The samples and the events of a replayed batch up to the moment shown, the newest page first. */

import { useEffect, useState, type ReactNode } from "react";

import type { LogWorker } from "../replay/logWorker";
import type { ShownEvent } from "../replay/log";
import { textOf } from "../sampleWords";
import { grouped, localTime, spaced, wordsOf } from "../words";
import { StoredEvent } from "./BatchEvents";
import { Empty, Foreign, Pager } from "./parts";

const PAGE = 50;

interface PartProps {
  id: string;
  /** How many there are by then. */
  count: number;
  until: number;
  log: LogWorker;
}

export function ReplayEvents(props: PartProps) {
  return (
    <Part {...props} name="events" empty="No event yet.">
      {(found) => (
        <ol className="events">
          {found.map((event) => (
            <StoredEvent key={event.sequence} view={event} />
          ))}
        </ol>
      )}
    </Part>
  );
}

export function ReplaySamples(props: PartProps) {
  return (
    <Part {...props} name="samples" empty="No sample was made by then. Step on, or play.">
      {(found) => (
        <ol className="samples">
          {found.map((event) => (
            <Sample key={event.sequence} {...event} />
          ))}
        </ol>
      )}
    </Part>
  );
}

/** Page 0 is the newest; each page is in the log's order. */
function Part(
  props: PartProps & {
    name: "events" | "samples";
    empty: string;
    children(found: ShownEvent[]): ReactNode;
  },
) {
  const { id, count, until, log, name } = props;
  const [page, setPage] = useState(0);
  const [found, setFound] = useState<ShownEvent[]>([]);
  const [words, setWords] = useState<string | null>(null);
  const end = Math.max(0, count - page * PAGE);
  const from = Math.max(0, end - PAGE);
  useEffect(() => {
    let isCurrent = true;
    log.ask(name, { id, from, limit: end - from, until }).then(
      (answer) => {
        if (!isCurrent) return;
        setFound(answer);
        setWords(null);
      },
      (error: unknown) => isCurrent && setWords(wordsOf(error)),
    );
    return () => {
      isCurrent = false;
    };
  }, [log, name, id, from, end, until]);
  if (words !== null)
    return (
      <p className="row-error" role="alert">
        <Foreign>{words}</Foreign>
      </p>
    );
  if (count === 0) return <Empty>{props.empty}</Empty>;
  return (
    <>
      <p className="muted">
        {grouped(from + 1)} to {grouped(end)} of {grouped(count)}
      </p>
      {props.children(found)}
      <Pager
        page={page}
        label={`Pages of ${name}, the newest first`}
        hasNext={from > 0}
        onPrevious={() => setPage(page - 1)}
        onNext={() => setPage(page + 1)}
      />
    </>
  );
}

function Sample({ sequence, stored_at, event }: ShownEvent) {
  const [isOpen, setOpen] = useState(false);
  const { slot, model, content } = event;
  const fields = typeof content === "object" && content !== null ? Object.entries(content) : [];
  return (
    <li>
      <details data-testid="sample" onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
        <summary>
          <span className="mono muted">{sequence}</span>
          <b>slot {String(slot)}</b>
          <Foreign>{String(model)}</Foreign>
          <time className="muted" dateTime={stored_at}>
            {localTime(stored_at)}
          </time>
        </summary>
        {isOpen && (
          <dl className="sample-content">
            {fields.map(([name, value]) => (
              <div key={name}>
                <dt>
                  <Foreign>{spaced(name)}</Foreign>
                </dt>
                <dd className="long-text" tabIndex={0}>
                  <Foreign>{textOf(value)}</Foreign>
                </dd>
              </div>
            ))}
          </dl>
        )}
      </details>
    </li>
  );
}
