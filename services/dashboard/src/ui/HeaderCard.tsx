/** What goes on in one line, the totals, and the button that starts a batch. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { getStatistics, getTimeline } from "../calls";
import { useConnection, useIsUnheard, useLiveIds, useNow } from "../live/hooks";
import { clock, store } from "../live/session";
import { useWorld } from "../live/world";
import { grouped, money, paceWords, UNKNOWN, wordsOf } from "../words";
import { Icon } from "./Icon";
import { Later, StartDialog } from "./later";
import { useStart } from "./useStart";

/** While batches run the totals move; their ends refresh them at once. */
const REFRESH_MS = 10_000;
const TODAY_REFRESH_MS = 30_000;
const DAY_MS = 86_400_000;
const HOUR_S = 3600;

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
        <Fact key={name} name={name} testid={testid} value={value} />
      ))}
      <Rates />
      <Today isMoving={isMoving} />
    </dl>
  );
}

/** What all live batches together do, new each second. */
function Rates() {
  const { store, at } = useWorld();
  const isUnheard = useIsUnheard();
  const isOffline = useConnection().state === "offline";
  const { samples, tokens, nanoUsd } = store.rates(useNow());
  const perHour = nanoUsd === null ? UNKNOWN : `${money(nanoUsd * HOUR_S)}/h`;
  const facts: [name: string, testid: string, value: string][] = [
    ["Samples", "samples-rate", paceWords(samples)],
    ["Tokens", "tokens-rate", paceWords(tokens)],
    ["Cost", "cost-rate", perHour],
  ];
  return facts.map(([name, testid, value]) => (
    <Fact
      key={testid}
      name={`${name} ${at === null ? "now" : "then"}`}
      testid={testid}
      value={(isUnheard || isOffline) && at === null ? UNKNOWN : value}
      title="All live batches together, over the last minute"
    />
  ));
}

/** What the day, that of UTC, has cost so far: hours are counted in it, the same for everybody. */
function Today({ isMoving }: { isMoving: boolean }) {
  const isPast = useWorld().at !== null;
  const day = Math.floor(useNow() / DAY_MS) * DAY_MS;
  const { data } = useQuery({
    queryKey: ["statistics", "day", day],
    queryFn: ({ signal }) => {
      const start = new Date(day).toISOString();
      return getTimeline({ start, model: "", bucket: "hour" }, signal);
    },
    enabled: !isPast && clock.told() !== null, // else the day may be another
    refetchInterval: isMoving ? TODAY_REFRESH_MS : false,
  });
  const costs = data?.rows.map((row) => row.cost_nano_usd).filter((cost) => cost !== null) ?? [];
  const isKnown = data && !isPast && (costs.length > 0 || data.rows.length === 0);
  const spent = isKnown ? money(costs.reduce((all, cost) => all + cost, 0)) : UNKNOWN;
  return <Fact name="Today (UTC)" testid="today" value={spent} title="Cost since 00:00 UTC" />;
}

function Fact(fact: { name: string; testid: string; value: string; title?: string }) {
  return (
    <div title={fact.title}>
      <dt>{fact.name}</dt>
      <dd data-testid={`statistics-${fact.testid}`}>{fact.value}</dd>
    </div>
  );
}
