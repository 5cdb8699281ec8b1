/** What the batch in the form may take, from what batches like it took; "—" where nobody knows. */

import { useQuery } from "@tanstack/react-query";

import { listBatches } from "../calls";
import type { ModelList } from "../choices";
import { estimate, type Estimate, type Range } from "../estimate";
import { store } from "../live/session";
import { modelOf, whole, type StartValues } from "../start";
import { useSettled } from "../settled";
import { duration, money, plural, rounded, UNKNOWN } from "../words";

/** So many of the latest batches it is told from, at most. */
const BASIS = 20;

export function EstimateNote(props: {
  values: StartValues;
  recipe: string;
  models: ModelList | undefined;
}) {
  const { values, recipe, models } = props;
  const named = modelOf(values) ?? models?.default ?? "";
  const model = useSettled(named);
  const ask = (question: { model?: string; recipe: string }) => ({
    queryKey: ["estimate", question],
    queryFn: ({ signal }: { signal: AbortSignal }) =>
      listBatches({ ...question, limit: BASIS, minSequence: store.movedAt() }, signal),
    enabled: recipe !== "",
  });
  const same = useQuery(ask({ model, recipe }));
  const any = useQuery(ask({ recipe }));
  const target = whole(values.target);
  const isLooking = named !== model || same.isLoading || any.isLoading;
  // What is known of another model or recipe is not shown beside the name of this one.
  const batches = isLooking ? [] : [...(same.data?.batches ?? []), ...(any.data?.batches ?? [])];
  const price = models?.models.find(({ id }) => id === model)?.price ?? null;
  const found = estimate(unique(batches), model, price, typeof target === "number" ? target : 0);
  const facts: [string, string, string][] = [
    ["tokens", "Tokens", words(found.tokens, rounded)],
    ["cost", "Cost", words(found.nanoUsd, (value) => money(Math.round(value)))],
    ["time", "Time", words(found.milliseconds, time)],
  ];
  const isOver = mayReach(values, found);
  return (
    <section className="estimate" aria-label="Estimate" data-testid="start-estimate">
      <dl>
        {facts.map(([name, title, text]) => (
          <div key={name}>
            <dt>{title}</dt>
            <dd data-testid={`estimate-${name}`}>{text}</dd>
          </div>
        ))}
      </dl>
      <small>
        {isLooking
          ? "Looking at batches of this recipe…"
          : same.data || any.data
            ? basisOf(found)
            : "No estimate: no earlier batch has been looked at."}
      </small>
      {isOver && <p data-testid="estimate-over">The budget may stop it before all are made.</p>}
    </section>
  );
}

const UNDER_A_SECOND = "under 1 s";
const time = (value: number): string => (value < 1000 ? UNDER_A_SECOND : duration(value));

function basisOf({ basis, isSameModel }: Estimate): string {
  if (basis === 0) {
    return "No estimate yet: no batch of this recipe has made a sample, or the number is none.";
  }
  const which = isSameModel ? " with this model" : ", with other models";
  return `As ${plural(basis, "batch", "batches")} of this recipe went${which}; the time depends on what else runs.`;
}

/** Whether one of the form's bounds lies below what the batch may take. */
function mayReach(values: StartValues, { tokens, nanoUsd, milliseconds }: Estimate): boolean {
  const bounds: [text: string, unit: number, range: Range | null][] = [
    [values.maxCost, 1e9, nanoUsd],
    [values.maxTokens, 1, tokens],
    [values.maxMinutes, 60_000, milliseconds],
  ];
  return bounds.some(
    ([text, unit, range]) => text.trim() !== "" && range !== null && Number(text) * unit < range.high,
  );
}

function unique<T extends { id: string }>(found: readonly T[]): T[] {
  return [...new Map(found.map((one) => [one.id, one])).values()];
}

function words(range: Range | null, of: (value: number) => string): string {
  if (range === null) return UNKNOWN;
  const [low, high] = [of(range.low), of(range.high)];
  if (high === UNDER_A_SECOND) return high;
  return low === high ? `about ${low}` : `${low} to ${high}`;
}
