/** One batch in full, live while it runs, or as it was at a sequence of the past. */

import { Tabs } from "@base-ui/react/tabs";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useMemo } from "react";

import type { Figures } from "../analysis";
import { getBatch, getFigures } from "../calls";
import { isLive, type BatchView } from "../contract";
import { useBatch } from "../live/hooks";
import { pastWorld, PRESENT, WorldContext } from "../live/world";
import { addressWith, go, hubAddress, useAt, useParameter } from "../place";
import {
  costWords,
  decimals,
  duration,
  grouped,
  localTime,
  money,
  plural,
  rounded,
  tokens,
  UNKNOWN,
  wasted,
  wordsOf,
} from "../words";
import { BatchAudit } from "./BatchAudit";
import { BatchCost } from "./BatchCost";
import { BatchErrors } from "./BatchErrors";
import { BatchEvents } from "./BatchEvents";
import { BatchFacts } from "./BatchFacts";
import { BatchLog } from "./BatchLog";
import { BatchQuality } from "./BatchQuality";
import { Commands } from "./Commands";
import { Exports } from "./Exports";
import { Link } from "./Link";
import { Empty, Foreign, ModelName, ProgressBar, StateChip, Trouble } from "./parts";
import { useMoving } from "./moving";
import { BudgetTag, Ticking, Waits } from "./RunningPanel";
import { SampleBrowser } from "./SampleBrowser";
import { StuckNote } from "./StuckPanel";
import { TimeTravel } from "./TimeTravel";

const REFRESH_MS = 2_000;
const TABS = ["details", "samples", "cost", "errors", "events", "audit", "quality"] as const;

export function BatchPage({ id }: { id: string }) {
  const at = useAt();
  const held = useBatch(id);
  const answer = useQuery({
    queryKey: ["batch", id, "view", at],
    queryFn: ({ signal }) => getBatch(id, undefined, signal, at),
    enabled: at !== null || held === undefined,
    placeholderData: keepPreviousData,
  });
  const batch = at === null ? (held ?? answer.data?.batch) : answer.data?.batch;
  return (
    <section className="card batch-page" data-testid="details" data-batch={id}>
      <header className="card-head">
        <h1 className="mono">
          <Foreign>{id}</Foreign>
        </h1>
        {batch && <StateChip state={batch.state} />}
        <Link to={hubAddress(at)}>Back to the hub</Link>
      </header>
      {answer.error && (
        <Trouble
          what="The batch could not be read"
          words={wordsOf(answer.error)}
          retry={() => void answer.refetch()}
        >
          {/* A moment before its start has no slider to leave it by. */}
          {at !== null && !batch && (
            <button type="button" data-testid="back-to-live" onClick={() => go(addressWith({ at: null }))}>
              Back to live
            </button>
          )}
        </Trouble>
      )}
      {!batch && answer.isPending && <Empty>Reading the batch…</Empty>}
      {batch && <Shown batch={batch} at={at} newest={held?.sequence} isOld={answer.isPlaceholderData} />}
    </section>
  );
}

function Shown(props: {
  batch: BatchView;
  at: number | null;
  newest: number | undefined;
  /** The view is that of the moment looked at before. */
  isOld: boolean;
}) {
  const { batch, at, newest, isOld } = props;
  const figures = useQuery({
    queryKey: ["batch", batch.id, "figures", isLive(batch.state), at],
    queryFn: ({ signal }) => getFigures(batch, at, signal),
    placeholderData: keepPreviousData,
    refetchInterval: at === null && isLive(batch.state) ? REFRESH_MS : false,
  });
  const time = Date.parse(figures.data?.at ?? batch.last_progress_at ?? batch.started_at);
  const world = useMemo(() => {
    if (at === null) return PRESENT;
    return pastWorld([batch], at, time);
  }, [at, batch, time]);
  const moves = useMoving(batch, batch);
  const content = (
    <>
      <div className="facts">
        <span data-testid="details-progress">
          <b>{grouped(batch.counts.generated)}</b> / {plural(batch.target, "sample")}
        </span>
        {batch.counts.failed > 0 && <span className="is-bad">{grouped(batch.counts.failed)} failed</span>}
        <span>{plural(tokens(batch.counts), "token")}</span>
        {at === null && isLive(batch.state) && <Ticking state={batch.state} moves={moves} hasCourse />}
        <ModelName batch={batch} />
        <BudgetTag batch={batch} />
      </div>
      <ProgressBar batch={batch} />
      {at === null && <Commands key={batch.id} batch={batch} />}
      <StuckNote batch={batch} />
      {at === null && <Waits batch={batch} />}
      {figures.error ? (
        <Trouble
          what="The figures could not be read"
          words={wordsOf(figures.error)}
          retry={() => void figures.refetch()}
        />
      ) : (
        <FigureList batch={batch} figures={figures.data} />
      )}
      <TimeTravel {...{ batch, at, newest, time }} isOld={isOld || figures.isPlaceholderData} />
      <BatchTabs batch={batch} figures={figures.data} />
    </>
  );
  return <WorldContext value={world}>{content}</WorldContext>;
}

function FigureList({ batch, figures }: { batch: BatchView; figures: Figures | undefined }) {
  const rate = (value: number | null | undefined): string =>
    value == null ? UNKNOWN : `${decimals(value, value < 10 ? 2 : 0)} samples/s`;
  const ms = (value: number | null | undefined): string =>
    value == null ? UNKNOWN : rounded(value);
  const { latency_ms, cost, eta_s, eta_at } = figures ?? {};
  const facts: [string, string][] = [
    ["Rate, last minute", rate(figures?.rates.last_minute)],
    ["Rate, overall", rate(figures?.rates.overall)],
    [
      "Time left",
      // What is stuck comes to no end at the pace of before.
      eta_s == null || batch.stuck ? UNKNOWN : `${duration(eta_s * 1000)}, at ${localTime(eta_at ?? "")}`,
    ],
    ["Spent", cost ? costWords({ ...batch.counts, cost_nano_usd: cost.spent_nano_usd }) : UNKNOWN],
    ["Of that wasted", money(cost?.wasted_nano_usd ?? wasted(batch.counts))],
    ["Projected", money(cost?.projected_nano_usd ?? null)],
    [
      "Latency p50 / p95 / p99, ms",
      [latency_ms?.p50, latency_ms?.p95, latency_ms?.p99].map(ms).join(" / "),
    ],
  ];
  return (
    <dl className="fact-list" data-testid="figures">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function BatchTabs({ batch, figures }: { batch: BatchView; figures: Figures | undefined }) {
  const [tab, setTab] = useParameter("tab", "details");
  const names: Record<(typeof TABS)[number], string> = {
    details: "Details",
    samples: `Samples (${grouped(batch.counts.generated)})`,
    cost: "Cost",
    errors: "Errors",
    events: "Timeline",
    audit: "Audit",
    quality: "Quality",
  };
  const known = TABS.find((one) => one === tab) ?? "details";
  return (
    <Tabs.Root value={known} onValueChange={(value) => setTab(String(value))} className="tabs">
      <Tabs.List className="tab-list">
        {TABS.map((one) => (
          <Tabs.Tab key={one} value={one} data-testid={`tab-${one}`}>
            {names[one]}
          </Tabs.Tab>
        ))}
      </Tabs.List>
      <h2 className="for-readers">{names[known]}</h2>
      <Tabs.Panel value="details" className="tab-panel">
        <BatchLog batch={batch} />
        <BatchFacts batch={batch} />
        <Exports batch={batch} />
      </Tabs.Panel>
      <Tabs.Panel value="samples" className="tab-panel">
        <SampleBrowser batch={batch} />
      </Tabs.Panel>
      <Tabs.Panel value="cost" className="tab-panel">
        <BatchCost batch={batch} figures={figures} />
      </Tabs.Panel>
      <Tabs.Panel value="errors" className="tab-panel">
        <BatchErrors batch={batch} figures={figures} />
      </Tabs.Panel>
      <Tabs.Panel value="events" className="tab-panel">
        <BatchEvents batch={batch} />
      </Tabs.Panel>
      <Tabs.Panel value="audit" className="tab-panel">
        <BatchAudit batch={batch} />
      </Tabs.Panel>
      <Tabs.Panel value="quality" className="tab-panel">
        <BatchQuality batch={batch} />
      </Tabs.Panel>
    </Tabs.Root>
  );
}
