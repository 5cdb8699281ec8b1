/** What a batch has spent over time, what it will have in the end, and what its budget leaves. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useMemo } from "react";

import type { Figures } from "../analysis";
import { burnOf, type Burn } from "../burn";
import { getTimeline } from "../calls";
import { isLive, isOverBudget, type BatchView } from "../contract";
import { useNow } from "../live/hooks";
import { useWorld } from "../live/world";
import { budgetWords, localTime, money, plural, tokens as tokensOf, UNKNOWN, wordsOf } from "../words";
import { Empty, Foreign, Trouble } from "./parts";

const Chart = lazy(() => import("./Chart").then((file) => ({ default: file.Chart })));
const REFRESH_MS = 5_000;

export function BatchCost({ batch, figures }: { batch: BatchView; figures: Figures | undefined }) {
  const { at } = useWorld();
  const answer = useQuery({
    queryKey: ["batch", batch.id, "burn", isLive(batch.state), at],
    queryFn: ({ signal }) =>
      getTimeline({ start: null, model: "", bucket: "auto", batch_id: batch.id }, signal, at),
    placeholderData: keepPreviousData,
    refetchInterval: at === null && isLive(batch.state) && REFRESH_MS,
  });
  if (answer.error) {
    return (
      <Trouble
        what="The cost could not be read"
        words={wordsOf(answer.error)}
        retry={() => void answer.refetch()}
      />
    );
  }
  if (!answer.data) return <Empty>Reading the cost…</Empty>;
  return <Shown batch={batch} figures={figures} timeline={answer.data} />;
}

function Shown(props: {
  batch: BatchView;
  figures: Figures | undefined;
  timeline: Parameters<typeof burnOf>[1];
}) {
  const { batch, figures, timeline } = props;
  const now = Math.floor(useNow() / REFRESH_MS) * REFRESH_MS;
  const isMoving = useWorld().at === null && isLive(batch.state);
  const burn = burnOf(batch, timeline, figures, now);
  // A chart that is drawn anew with each sample can't be read: that of a live batch stands a while.
  const changing = isMoving ? [null, null, figures !== undefined] : [batch, timeline, figures];
  const { times, series } = useMemo(
    () => ({ times: burn.times, series: seriesOf(burn) }),
    [now, burn.isMoney, ...changing],
  );
  const unit = burn.isMoney ? money : (value: number | null) => tokens(value);
  const points = burn.times.map((time, place) => ({
    time,
    spent: burn.spent[place] ?? null,
    projected: burn.projected[place] ?? null,
  }));
  return (
    <div data-testid="burn" data-unit={burn.isMoney ? "money" : "tokens"}>
      {!burn.isMoney && (
        <p className="muted">
          {whyTokens(batch)}
        </p>
      )}
      {isOverBudget(batch) && batch.stop_reason && (
        <p data-testid="burn-over">
          Ended by its budget: <Foreign>{batch.stop_reason}</Foreign>. What is spent is told below; a
          budget also counts calls of which nobody knows what they used.
        </p>
      )}
      <Facts batch={batch} burn={burn} figures={figures} unit={unit} />
      <Suspense fallback={<div className="chart" />}>
        <Chart
          times={times}
          step={Math.max(1, ((times.at(-1) ?? 0) - (times[0] ?? 0)) / 50)}
          series={series}
          isMoney={burn.isMoney}
        />
      </Suspense>
      <details>
        <summary>The same as a table</summary>
        <div className="table-scroll" tabIndex={0} role="region" aria-label="Spent over time">
          <table>
            <thead>
              <tr>
                <th scope="col">At</th>
                <th scope="col" className="number">
                  Spent
                </th>
                <th scope="col" className="number">
                  Projected
                </th>
              </tr>
            </thead>
            <tbody>
              {points.map(({ time, spent, projected }) => (
                <tr key={time}>
                  <th scope="row">{at(time)}</th>
                  <td className="number">{unit(spent)}</td>
                  <td className="number">{unit(projected)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </details>
    </div>
  );
}

function whyTokens({ counts }: BatchView): string {
  if (counts.cost_nano_usd !== null) return "Nothing has cost anything so far, so tokens are shown.";
  if (tokensOf(counts) === 0) return "No call has told yet what it used, so no cost is known.";
  return "No price of this model is known, so tokens are shown in place of a cost.";
}

const at = (seconds: number): string => localTime(new Date(seconds * 1000).toISOString());

function tokens(value: number | null): string {
  return value === null ? UNKNOWN : plural(Math.round(value), "token");
}

function Facts(props: {
  batch: BatchView;
  burn: Burn;
  figures: Figures | undefined;
  unit(value: number | null): string;
}) {
  const { batch, burn, figures, unit } = props;
  const perHour = isLive(batch.state) ? burn.perHour : null;
  const facts: [name: string, testid: string, value: string][] = [
    ["Spent", "spent", unit(burn.spent.findLast((value) => value !== null) ?? null)],
    ["By the hour, at this pace", "per-hour", unit(perHour && Math.round(perHour))],
    ["In the end, at this pace", "projected", unit(burn.projectedEnd)],
    ["For each sample", "per-sample", money(figures?.cost.per_sample_nano_usd ?? null)],
    ["For no sample", "wasted", money(figures?.cost.wasted_nano_usd ?? null)],
    ["Budget", "budget", budgetWords(batch).join(", ") || "none"],
  ];
  if (burn.budgetAt !== null) facts.push(["Budget reached", "budget-at", `about ${at(burn.budgetAt)}`]);
  return (
    <dl className="fact-list">
      {facts.map(([name, testid, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd data-testid={`burn-${testid}`}>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function seriesOf({ isMoney, spent, projected, projectedEnd, budget, times }: Burn) {
  const unit = isMoney ? "US dollars" : "tokens";
  const series: Parameters<typeof Chart>[0]["series"] = [{ name: `spent, ${unit}`, values: [...spent] }];
  if (projectedEnd !== null) series.push({ name: "projected", values: [...projected] });
  if (budget !== null) series.push({ name: "budget", values: times.map(() => budget) });
  return series;
}
