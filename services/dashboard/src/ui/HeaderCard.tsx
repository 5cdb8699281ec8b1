/** What goes on in one line, the totals, and the button that starts a batch. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { getStatistics, getTimeline } from "../calls";
import type { Statistics } from "../contract";
import { useConnection, useIsUnheard, useLiveCounts, useNow } from "../live/hooks";
import { clock, line, store } from "../live/session";
import { totals, unpriced } from "../live/totals";
import { useWorld } from "../live/world";
import { grouped, money, paceWords, UNKNOWN, unpricedWords, wordsOf } from "../words";
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
  const { running, paused } = useLiveCounts();
  const { at, isTold } = useWorld();
  const isPast = at !== null;
  const isUnheard = useIsUnheard();
  const isOffline = useConnection().state === "offline"; // Nobody knows then what goes on.
  return (
    <section className="card hero" aria-labelledby="hub-title">
      <div className="hero-head">
        <div>
          <h1 id="hub-title">Generation hub</h1>
          <p className="muted">{isPast ? wordsThen(running, paused, isTold) : wordsNow(running, paused, isUnheard)}</p>
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
function wordsThen(running: number, paused: number, isTold: boolean): string {
  if (!isTold) return "Nobody has told yet what was running then.";
  if (running > 0) return "These batches were running then.";
  return paused > 0 ? "These batches were paused then." : "Nothing was running then.";
}

function wordsNow(running: number, paused: number, isUnheard: boolean): string {
  if (running > 0) return "Samples appear here as they are made.";
  if (paused > 0) return "All is paused. Resume a batch, or add one.";
  return isUnheard ? "Looking what is running…" : "Nothing is running. Add a batch.";
}

function StatisticsStrip({ isMoving }: { isMoving: boolean }) {
  const { at } = useWorld();
  const { data, error, isPlaceholderData } = useQuery({
    queryKey: ["statistics", at],
    queryFn: ({ signal }) => getStatistics(store.movedAt(), at, signal),
    placeholderData: keepPreviousData,
    refetchInterval: isMoving ? REFRESH_MS : false,
  });
  const all = useTotals(data, isPlaceholderData || at !== null);
  const facts: FactProps[] = [
    { name: "Samples", testid: "total", value: all ? grouped(all.samples) : UNKNOWN },
    { name: "Batches", testid: "batches", value: data ? grouped(data.batches) : UNKNOWN },
    { name: "Topics", testid: "topics", value: data ? grouped(data.unique_topics) : UNKNOWN },
    { name: "Tokens", testid: "tokens", value: all ? grouped(all.tokens) : UNKNOWN },
    { name: "Cost", testid: "cost", ...priced(all?.nanoUsd ?? null, all?.unpriced) },
  ];
  return (
    <dl className="statistics" data-testid="statistics" title={error ? wordsOf(error) : undefined}>
      {facts.map((fact) => (
        <Fact key={fact.testid} {...fact} />
      ))}
      <Rates />
      <Today isMoving={isMoving} />
    </dl>
  );
}

/** What all batches have made by now, new each second; or as it was told, of what stands still. */
function useTotals(data: Statistics | undefined, isStill: boolean) {
  const { store } = useWorld();
  useNow();
  const [told, setTold] = useState({ data, isStill });
  if (data !== told.data || isStill !== told.isStill) {
    // The stream may be behind the read model: an answer is taken once both tell the same.
    const isReached = (data?.as_of ?? 0) <= line.vitals().sequence;
    if (isReached || isStill || told.isStill || !told.data) setTold({ data, isStill });
  }
  if (!told.data) return undefined;
  return totals(told.data, told.isStill ? null : store.since(told.data.as_of));
}

/** A cost, and of how many batches it is not known. */
function priced(nanoUsd: number | null, unpriced = 0): Pick<FactProps, "value" | "note"> {
  return { value: money(nanoUsd), note: unpricedWords(unpriced, nanoUsd !== null) };
}

/** What all live batches together do, new each second. */
function Rates() {
  const { store, at, isTold } = useWorld();
  const isUnheard = useIsUnheard();
  const isOffline = useConnection().state === "offline";
  const rates = store.rates(useNow());
  const perHour = rates?.nanoUsd == null ? UNKNOWN : `${money(rates.nanoUsd * HOUR_S)}/h`;
  const note = unpricedWords(unpriced(store.since(Infinity)), rates?.nanoUsd != null);
  const isUntold = at === null ? isUnheard || isOffline : !isTold;
  const facts: FactProps[] = [
    { name: "Samples", testid: "samples-rate", value: rates ? paceWords(rates.samples) : UNKNOWN },
    { name: "Tokens", testid: "tokens-rate", value: rates ? paceWords(rates.tokens) : UNKNOWN },
    { name: "Cost", testid: "cost-rate", value: perHour, note },
  ];
  return facts.map(({ name, testid, ...told }) => (
    <Fact
      key={testid}
      name={`${name} ${at === null ? "now" : "then"}`}
      testid={testid}
      title="All live batches together, over the last minute"
      {...(isUntold ? { value: UNKNOWN } : told)}
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
  const spent = isKnown ? costs.reduce((all, cost) => all + cost, 0) : null;
  const told = priced(spent, isPast ? 0 : data?.unpriced_batches);
  return <Fact name="Today (UTC)" testid="today" title="Cost since 00:00 UTC" {...told} />;
}

interface FactProps {
  name: string;
  testid: string;
  value: string;
  /** What the value leaves out. */
  note?: string;
  title?: string;
}

function Fact({ name, testid, value, note, title }: FactProps) {
  return (
    <div title={title}>
      <dt>{name}</dt>
      <dd data-testid={`statistics-${testid}`}>{value}</dd>
      {note && (
        <dd className="unpriced" data-testid={`statistics-${testid}-unpriced`}>
          {note}
        </dd>
      )}
    </div>
  );
}
