/** What each model or provider did over time: charts, each with its numbers as a table beneath. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { lazy, Suspense } from "react";

import type { Timeline, TimelineRow } from "../analysis";
import { getTimeline, serverNow } from "../calls";
import { useParameter } from "../place";
import { bucketsOf, busyOf, linesOf, type Split } from "../series";
import { decimals, localTime, money, rounded, UNKNOWN, unpricedWords, wordsOf } from "../words";
import { AllSamples, useAllSamples } from "./AllSamples";
import { FirstSamples } from "./FirstSamples";
import { Empty, Foreign, Trouble } from "./parts";

const Chart = lazy(() => import("./Chart").then((file) => ({ default: file.Chart })));
const REFRESH_MS = 10_000;
const RANGES: Record<string, [name: string, hours: number | null]> = {
  hour: ["last hour", 1],
  day: ["last day", 24],
  week: ["last 7 days", 168],
  all: ["all", null],
};

interface Measure {
  name: string;
  of(row: TimelineRow): number | null;
  words(value: number): string;
  /** It is 0 where no call was. */
  isCount?: true;
}

const MEASURES: Measure[] = [
  {
    name: "Samples per second",
    of: (row) => row.samples_per_s,
    words: (n) => decimals(n, 2),
    isCount: true,
  },
  { name: "Latency p50, ms", of: (row) => row.latency_ms.p50, words: rounded },
  { name: "Latency p95, ms", of: (row) => row.latency_ms.p95, words: rounded },
  { name: "Latency p99, ms", of: (row) => row.latency_ms.p99, words: rounded },
  {
    name: "Tokens",
    of: (row) =>
      row.tokens_in === null || row.tokens_out === null ? null : row.tokens_in + row.tokens_out,
    words: rounded,
    isCount: true,
  },
  { name: "Cost", of: (row) => row.cost_nano_usd, words: money, isCount: true },
  {
    name: "Failed calls, %",
    of: (row) => (row.failure_ratio === null ? null : row.failure_ratio * 100),
    words: (n) => decimals(n, 1),
  },
];

export function StatisticsPage() {
  const [range] = useParameter("range", "day");
  const [model] = useParameter("model");
  const [split] = useSplit();
  const hours = (RANGES[range] ?? RANGES["day"])?.[1] ?? null;
  const answer = useQuery({
    queryKey: ["timeline", range, model, split],
    queryFn: async ({ signal }) => {
      const span = hours === null ? { start: null } : await lastHours(hours, signal);
      return getTimeline({ ...span, model, bucket: "auto", by: split }, signal);
    },
    placeholderData: keepPreviousData,
    refetchInterval: REFRESH_MS,
  });
  const rows = answer.data?.rows ?? [];
  const all = useAllSamples();
  const models = namesOf([
    ...(all.data?.models ?? []).map(({ name }) => name),
    ...rows.map((row) => row.model),
    model,
  ]);
  return (
    <section className="card" aria-labelledby="statistics-title">
      <header className="card-head">
        <h1 id="statistics-title">Statistics</h1>
        <Choices models={models} />
      </header>
      {answer.error && (
        <Trouble
          what="The statistics could not be read"
          words={wordsOf(answer.error)}
          retry={() => void answer.refetch()}
        />
      )}
      {answer.isPending && <Empty>Reading the statistics…</Empty>}
      {answer.data && rows.length === 0 && (
        <Empty>No call ended in this time. Choose a longer range, or start a batch.</Empty>
      )}
      {answer.data &&
        rows.length > 0 &&
        MEASURES.map((measure) => (
          <MeasureOverTime key={measure.name} measure={measure} timeline={answer.data} />
        ))}
      {answer.data && <FirstSamples rows={answer.data.first_samples} />}
      {answer.data && <AllSamples {...all} />}
    </section>
  );
}

/** Those of all times too: rows per provider name none. */
function namesOf(models: readonly (string | null)[]): readonly string[] {
  return [...new Set(models.filter((model) => model !== null))].filter(Boolean).sort();
}

function useSplit(): [Split, (split: string) => void] {
  const [chosen, setSplit] = useParameter("split", "model");
  return [chosen === "provider" ? "provider" : "model", setSplit];
}

function Choices({ models }: { models: readonly string[] }) {
  const [range, setRange] = useParameter("range", "day");
  const [model, setModel] = useParameter("model");
  const [split, setSplit] = useSplit();
  return (
    <div className="choices-of-statistics">
      <label>
        Range{" "}
        <select
          data-testid="range"
          value={range in RANGES ? range : "day"}
          onChange={(event) => setRange(event.target.value)}
        >
          {Object.entries(RANGES).map(([value, [name]]) => (
            <option key={value} value={value}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label>
        Model{" "}
        <select value={model} onChange={(event) => setModel(event.target.value)}>
          <option value="">all</option>
          {models.map((one) => (
            <option key={one}>{one}</option>
          ))}
        </select>
      </label>
      <label>
        Lines per{" "}
        <select
          data-testid="split"
          value={split}
          onChange={(event) => setSplit(event.target.value)}
        >
          <option>model</option>
          <option>provider</option>
        </select>
      </label>
    </div>
  );
}

/** Up to now: without an end the answer would cover no more than the last call. */
async function lastHours(
  hours: number,
  signal: AbortSignal,
): Promise<{ start: string; end: string }> {
  const now = await serverNow(signal);
  const start = new Date(now - hours * 3_600_000).toISOString();
  return { start, end: new Date(now).toISOString() };
}

interface MeasureProps {
  measure: Measure;
  timeline: Timeline;
}

function MeasureOverTime({ measure, timeline: { rows, ...timeline } }: MeasureProps) {
  const lines = linesOf(rows, measure.of, measure.isCount ?? false);
  const times = bucketsOf(timeline);
  return (
    <section className="measure" data-testid="measure">
      <h2>{measure.name}</h2>
      {measure.words === money && timeline.unpriced_batches > 0 && (
        <p className="muted" data-testid="unpriced">
          {unpricedWords(timeline.unpriced_batches, rows.some((row) => row.cost_nano_usd !== null))}
        </p>
      )}
      <Suspense fallback={<div className="chart" />}>
        <Chart
          times={times}
          step={timeline.bucket_s}
          series={lines.map(({ name, at }) => ({ name, values: times.map(at) }))}
          isMoney={measure.words === money}
        />
      </Suspense>
      <details>
        <summary>
          {measure.name} as a table, per {timeline.bucket} with calls
        </summary>
        <div className="table-scroll" tabIndex={0} role="region" aria-label={measure.name}>
          <table>
            <thead>
              <tr>
                <th scope="col">From</th>
                {lines.map(({ name }) => (
                  <th key={name} scope="col" className="number">
                    <Foreign>{name}</Foreign>
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {busyOf(rows).map((second) => (
                <tr key={second}>
                  <th scope="row">{localTime(new Date(second * 1000).toISOString())}</th>
                  {lines.map(({ name, at }) => {
                    const value = at(second);
                    return (
                      <td key={name} className="number">
                        {value === null ? UNKNOWN : measure.words(value)}
                      </td>
                    );
                  })}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </details>
    </section>
  );
}
