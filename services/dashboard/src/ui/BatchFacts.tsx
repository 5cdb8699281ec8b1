/** The details tab: how the batch was asked for, how far it is, what went wrong. */

import type { ReactNode } from "react";

import type { BatchView, Counts } from "../contract";
import { useNow } from "../live/hooks";
import { BatchLink } from "./Link";
import {
  batchDuration,
  budgetWords,
  costWords,
  grouped,
  localTime,
  money,
  plural,
  spaced,
  UNKNOWN,
  wasted,
  whole,
} from "../words";
import { Foreign, ModelName } from "./parts";

type Fact = [name: string, value: ReactNode];

const HASH = "Recipe's hash";

export function BatchFacts({ batch }: { batch: BatchView }) {
  return (
    <>
      <Errors batch={batch} />
      <Facts title="Progress" facts={progressFacts(batch)} />
      <Facts title="As asked for" facts={requestFacts(batch)} />
    </>
  );
}

function Facts({ title, facts }: { title: string; facts: readonly Fact[] }) {
  return (
    <section>
      <h3>{title}</h3>
      <dl className="fact-list">
        {facts.map(([name, value]) => (
          <div key={name} className={name === HASH ? "is-long" : undefined}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function Errors({ batch }: { batch: BatchView }) {
  const tallies = Object.entries(batch.errors);
  if (!batch.error && !batch.last_error && tallies.length === 0) return null;
  return (
    <section className="error-box" data-testid="details-errors">
      <h3>Errors</h3>
      {batch.error && (
        <p>
          The batch failed ({spaced(batch.error.category)}): <Foreign>{batch.error.message}</Foreign>
        </p>
      )}
      {batch.last_error && (
        <p>
          Latest attempt that failed ({spaced(batch.last_error.category)}):{" "}
          <Foreign>{batch.last_error.message}</Foreign>
        </p>
      )}
      {tallies.length > 0 && (
        <p>
          {tallies.map(([name, count]) => `${spaced(name)}: ${grouped(count)}`).join(" · ")}
        </p>
      )}
    </section>
  );
}

function progressFacts(batch: BatchView): Fact[] {
  const { counts } = batch;
  return [
    ["Made", grouped(counts.generated)],
    ["Open", grouped(counts.pending)],
    ["Failed", grouped(counts.failed)],
    ["Abandoned by a stop", grouped(counts.abandoned)],
    ["Answers refused by validation", grouped(counts.rejected)],
    ["Calls lost to an error", grouped(counts.attempts_failed)],
    ["Tokens in", grouped(counts.tokens_in)],
    ["Tokens out", grouped(counts.tokens_out)],
    ["Cost", costWords(counts)],
    ["Of that without a sample", money(wasted(counts))],
    ...unpricedFacts(counts),
    ...unconfirmedFacts(counts.unconfirmed_calls),
    ["Duration", <Duration key="duration" batch={batch} />],
    ["Started", localTime(batch.started_at)],
    ["Ended", batch.finished_at ? localTime(batch.finished_at) : "not yet"],
    ...stopFacts(batch),
    ...familyFacts(batch),
  ];
}

function unpricedFacts({ unpriced_calls }: Counts): Fact[] {
  return unpriced_calls ? [["Calls of unknown price", grouped(unpriced_calls)]] : [];
}

function unconfirmedFacts(calls: number): Fact[] {
  if (calls === 0) return [];
  return [["Perhaps paid, cost unknown", `at most ${plural(calls, "call")}`]];
}

function familyFacts(batch: BatchView): Fact[] {
  const link = (id: string): ReactNode => <BatchLink key={id} id={id} />;
  const facts: Fact[] = [];
  if (batch.parent_id) facts.push(["Goes on with what was left by", link(batch.parent_id)]);
  if (batch.retry_id) facts.push(["What failed is made by", link(batch.retry_id)]);
  if (batch.child_id) facts.push(["What was left is made by", link(batch.child_id)]);
  return facts;
}

function stopFacts(batch: BatchView): Fact[] {
  if (!batch.stopped_by) return [];
  const by = <Foreign>{batch.stopped_by}</Foreign>;
  const why = batch.stop_reason ? <Foreign>{batch.stop_reason}</Foreign> : UNKNOWN;
  return [
    ["Stopped by", by],
    ["Reason", why],
  ];
}

function requestFacts(batch: BatchView): Fact[] {
  const foreign = (text: string | null, otherwise: string): ReactNode =>
    text ? <Foreign>{text}</Foreign> : otherwise;
  return [
    ["Model", <ModelName key="model" batch={batch} />],
    ["Provider", foreign(batch.provider, UNKNOWN)],
    ["Recipe", foreign(batch.recipe, UNKNOWN)],
    ["Topic", foreign(batch.topic, "all, mixed")],
    ["Difficulty", foreign(batch.difficulty, "balanced")],
    ["Sample type", foreign(batch.sample_type, "balanced")],
    ["Instruction", foreign(batch.instruction, "none")],
    ["Smart mode", batch.smart_mode ? "on" : "off"],
    ["Calls at the same time", `up to ${grouped(batch.concurrency)}`],
    ["Priority", batch.priority],
    ...poolFacts(batch),
    ["Budgets", budgetWords(batch).join(", ") || "none"],
    ["Seed", whole(batch.seed)],
    ["Started by", foreign(batch.started_by, UNKNOWN)],
    [HASH, foreign(batch.recipe_hash, UNKNOWN)],
  ];
}

/** Whose generators make it, where somebody chose that. */
function poolFacts({ pool }: BatchView): Fact[] {
  return pool === "default" ? [] : [["Pool", <Foreign key="pool">{pool}</Foreign>]];
}

function Duration({ batch }: { batch: BatchView }) {
  return <>{batchDuration(batch, useNow())}</>;
}
