/** What goes on in one line, the totals, and the button that starts a batch. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { getStatistics } from "../calls";
import { useConnection, useIsUnheard, useLiveIds } from "../live/hooks";
import { store } from "../live/session";
import { useWorld } from "../live/world";
import { grouped, money, UNKNOWN, wordsOf } from "../words";
import { Icon } from "./Icon";
import { Later, StartDialog } from "./later";
import { useStart } from "./useStart";

/** While batches run the totals move; their ends refresh them at once. */
const REFRESH_MS = 10_000;

export function HeaderCard() {
  const start = useStart();
  const running = useLiveIds().length;
  const isPast = useWorld().at !== null;
  const isUnheard = useIsUnheard();
  const isOffline = useConnection().state === "offline"; // Nobody knows then what goes on.
  return (
    <section className="card hero" aria-labelledby="hub-title">
      <div className="hero-head">
        <div>
          <h1 id="hub-title">Generation hub</h1>
          <p className="muted">{wordsFor(running > 0, isPast, isUnheard)}</p>
        </div>
        <div className="hero-actions">
          <span className="chip-slot" role="status">
            {running > 0 && !isPast && !isOffline && (
              <span className="chip chip-generating" data-testid="chip">
                <span className="pulse" aria-hidden="true" />
                Generating…
              </span>
            )}
            {running === 0 && start.isSending && <span className="chip">Starting…</span>}
          </span>
          {!isPast && (
            <button type="button" className="primary" data-testid="start-open" onClick={start.open}>
              <Icon name="plus" />
              Add new batch
            </button>
          )}
        </div>
      </div>
      <StatisticsStrip isMoving={running > 0 && !isPast} />
      <Later when={start.isOpen}>
        <StartDialog start={start} />
      </Later>
    </section>
  );
}

// Each fits into one line of a narrow page, so that nothing moves when one takes another's place.
function wordsFor(isRunning: boolean, isPast: boolean, isUnheard: boolean): string {
  if (isPast) return isRunning ? "These batches were running then." : "Nothing was running then.";
  if (isRunning) return "Samples appear here as they are made.";
  return isUnheard ? "Looking what is running…" : "Nothing is running. Add a batch.";
}

function StatisticsStrip({ isMoving }: { isMoving: boolean }) {
  const { at } = useWorld();
  const { data, error } = useQuery({
    queryKey: ["statistics", at],
    queryFn: ({ signal }) => getStatistics(store.movedAt(), at, signal),
    placeholderData: keepPreviousData,
    refetchInterval: isMoving ? REFRESH_MS : false,
  });
  const facts: [name: string, testid: string, value: string][] = [
    ["Samples", "total", data ? grouped(data.total) : UNKNOWN],
    ["Batches", "batches", data ? grouped(data.batches) : UNKNOWN],
    ["Topics", "topics", data ? grouped(data.unique_topics) : UNKNOWN],
    ["Tokens", "tokens", data ? grouped(data.tokens_in + data.tokens_out) : UNKNOWN],
    ["Cost", "cost", data ? money(data.cost_nano_usd) : UNKNOWN],
  ];
  return (
    <dl className="statistics" data-testid="statistics" title={error ? wordsOf(error) : undefined}>
      {facts.map(([name, testid, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd data-testid={`statistics-${testid}`}>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
