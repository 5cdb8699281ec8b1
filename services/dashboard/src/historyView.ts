/** What the history shows, as its address says it: filters, order, columns; and views kept of it. */

import type { HistoryFilter } from "./calls";
import { STATES, type State } from "./contract";
import { keptList } from "./named";
import { addressWith, go, usePlace } from "./place";
import { useSettled } from "./settled";

export const SORTS = [
  ["-started", "newest first"],
  ["started", "oldest first"],
  ["-finished", "latest end first"],
  ["-progress", "furthest first"],
  ["-cost", "dearest first"],
  ["-samples", "most samples first"],
] as const;

export const COLUMNS = [
  ["model", "Model"],
  ["recipe", "Recipe"],
  ["priority", "Priority"],
  ["failed", "Failed"],
  ["tokens", "Tokens"],
  ["cost", "Cost"],
  ["duration", "Duration"],
] as const;

export type Column = (typeof COLUMNS)[number][0];

const DEFAULT_COLUMNS = "model,failed,tokens,cost,duration";
const NEWEST_FIRST = SORTS[0][0];
/** The parameters that make a view; others, such as the moment, are not its matter. */
const OF_A_VIEW = ["state", "q", "model", "recipe", "sort", "columns"] as const;

export interface HistoryView {
  state: State | null;
  text: string;
  model: string;
  recipe: string;
  sort: string;
  columns: string;
}

export function useHistoryView(): HistoryView {
  const { query } = usePlace();
  const asked = query.get("state");
  return {
    state: STATES.find((one) => one === asked) ?? null,
    text: query.get("q") ?? "",
    model: query.get("model") ?? "",
    recipe: query.get("recipe") ?? "",
    sort: query.get("sort") ?? NEWEST_FIRST,
    columns: query.get("columns") ?? DEFAULT_COLUMNS,
  };
}

/** Change a part of the view; what is as it is by default leaves the address. */
export function changeView(change: Partial<HistoryView>): void {
  const { state, text, model, recipe, sort, columns } = change;
  const changes = {
    state,
    q: text,
    model,
    recipe,
    sort: sort === NEWEST_FIRST ? "" : sort,
    columns: columns === DEFAULT_COLUMNS ? "" : columns,
  };
  const given = Object.entries(changes).filter(([, value]) => value !== undefined);
  go(addressWith(Object.fromEntries(given) as Record<string, string | null>), true);
}

/** What a view asks the server for; the text once its writer has paused. */
export function useFilter({ state, text, model, recipe }: HistoryView): HistoryFilter {
  return { states: state ? [state] : [], text: useSettled(text.trim()), model, recipe };
}

export const isNarrow = ({ states, text, model, recipe }: HistoryFilter): boolean =>
  Boolean(states?.length || text || model || recipe);

export const isPlain = (view: HistoryView): boolean => view.sort === NEWEST_FIRST;

/** Show or hide a column; the order stays that of COLUMNS. */
export function withColumn(columns: string, name: Column, isShown: boolean): string {
  const shown = new Set(columns.split(","));
  if (isShown) shown.add(name);
  else shown.delete(name);
  const known = COLUMNS.map(([one]) => one).filter((one) => shown.has(one));
  return known.join(",") || "none";
}

const isText = (value: unknown): value is string => typeof value === "string";

/** Views kept by name, each as the part of the address that makes it. */
export const savedViews = keptList("views", isText);

/** The view of an address, as it is kept. */
export function viewOf(query: URLSearchParams): string {
  const kept = new URLSearchParams();
  for (const name of OF_A_VIEW) {
    const value = query.get(name);
    if (value) kept.set(name, value);
  }
  return kept.toString();
}

export function showView(view: string): void {
  const query = new URLSearchParams(view);
  go(addressWith(Object.fromEntries(OF_A_VIEW.map((name) => [name, query.get(name)]))));
}
