/** What narrows, orders and lays out the history, and the views that are kept of it. */

import { useEffect, useRef } from "react";

import { SEARCH_MOST } from "../calls";
import { dropWidths, useShares } from "../columnWidths";
import { STATES, type Facets, type State } from "../contract";
import {
  changeView,
  COLUMNS,
  savedViews,
  showView,
  SORTS,
  viewOf,
  withColumn,
  type HistoryView,
} from "../historyView";
import { usePlace } from "../place";
import { grouped } from "../words";
import { Icon } from "./Icon";
import { KeepForm } from "./KeepForm";
import { KeptNote } from "./KeptNote";
import { Foreign, StateChip } from "./parts";

export function HistoryControls({ view, facets }: { view: HistoryView; facets: Facets }) {
  return (
    <div className="history-controls">
      <input
        type="search"
        data-testid="history-search"
        aria-label="Search batches by id, model or text"
        placeholder="Search"
        maxLength={SEARCH_MOST}
        value={view.text}
        onChange={(event) => changeView({ text: event.target.value })}
      />
      <FacetChoice name="model" facet="models" label="Model" view={view} facets={facets} />
      <FacetChoice name="recipe" facet="recipes" label="Recipe" view={view} facets={facets} />
      <label>
        Sort{" "}
        <select
          data-testid="history-sort"
          value={view.sort}
          onChange={(event) => changeView({ sort: event.target.value })}
        >
          {SORTS.map(([value, name]) => (
            <option key={value} value={value}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <ColumnChoice columns={view.columns} />
    </div>
  );
}

function FacetChoice(props: {
  name: "model" | "recipe";
  facet: string;
  label: string;
  view: HistoryView;
  facets: Facets;
}) {
  const { name, view } = props;
  const tallies = props.facets[props.facet] ?? [];
  const value = view[name];
  const isListed = value === "" || tallies.some((tally) => tally.name === value);
  return (
    <label>
      {props.label}{" "}
      <select
        data-testid={`history-${name}`}
        value={value}
        onChange={(event) => changeView({ [name]: event.target.value })}
      >
        <option value="">all</option>
        {!isListed && <option>{value}</option>}
        {tallies.map((tally) => (
          <option key={tally.name} value={tally.name}>
            {`${tally.name} (${grouped(tally.count)})`}
          </option>
        ))}
      </select>
    </label>
  );
}

function ColumnChoice({ columns }: { columns: string }) {
  const shown = columns.split(",");
  const isSized = useShares(shown) !== null;
  const menu = useClosing();
  return (
    <details className="column-choice" ref={menu}>
      <summary data-testid="columns">Columns</summary>
      <fieldset>
        <legend className="for-readers">Columns of the history</legend>
        {COLUMNS.map(([name, title]) => (
          <label key={name}>
            <input
              type="checkbox"
              data-testid={`column-${name}`}
              checked={shown.includes(name)}
              onChange={(event) =>
                changeView({ columns: withColumn(columns, name, event.target.checked) })
              }
            />
            {title}
          </label>
        ))}
        {isSized && (
          <button type="button" className="quiet" data-testid="widths-plain" onClick={dropWidths}>
            Let the widths fit
          </button>
        )}
      </fieldset>
    </details>
  );
}

/** Closes a menu by Escape, which leads back to its button, and by a press beside it. */
function useClosing() {
  const menu = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    const onPress = ({ target }: PointerEvent): void => {
      if (menu.current && !menu.current.contains(target as Node)) menu.current.open = false;
    };
    const onKey = ({ key }: KeyboardEvent): void => {
      if (key !== "Escape" || !menu.current?.open) return;
      menu.current.open = false;
      menu.current.querySelector("summary")?.focus();
    };
    document.addEventListener("pointerdown", onPress);
    document.addEventListener("keydown", onKey);
    return () => {
      document.removeEventListener("pointerdown", onPress);
      document.removeEventListener("keydown", onKey);
    };
  }, []);
  return menu;
}

export function StateFilter(props: {
  /** Undefined while nobody has told them. */
  counts: Partial<Record<State, number>> | undefined;
  chosen: State | null;
}) {
  const counts = props.counts ?? {};
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const shown = STATES.filter((state) => counts[state] || state === props.chosen);
  return (
    <div className="filters" role="group" aria-label="Filter by state">
      <button
        type="button"
        data-testid="filter-all"
        aria-pressed={props.chosen === null}
        onClick={() => changeView({ state: null })}
      >
        All{props.counts && ` ${grouped(total)}`}
      </button>
      {shown.map((state) => (
        <button
          key={state}
          type="button"
          data-testid={`filter-${state}`}
          aria-pressed={props.chosen === state}
          onClick={() => changeView({ state })}
        >
          <StateChip state={state} count={props.counts && (counts[state] ?? 0)} />
        </button>
      ))}
    </div>
  );
}

/** The views kept in this browser, and the way to keep the one that is shown. */
export function SavedViews() {
  const views = savedViews.use();
  const now = viewOf(usePlace().query);
  const isKept = views.some(({ value }) => value === now);
  if (views.length === 0 && now === "") return null;
  return (
    <div className="saved-views" role="group" aria-label="Saved views">
      {views.map(({ name, value }) => (
        <span key={name} className="saved-view">
          <button
            type="button"
            data-testid="saved-view"
            aria-pressed={value === now}
            onClick={() => showView(value)}
          >
            <Foreign>{name}</Foreign>
          </button>
          <button
            type="button"
            className="quiet icon-only"
            data-testid="saved-view-drop"
            aria-label={`Forget the view ${name}`}
            onClick={() => savedViews.drop(name)}
          >
            <Icon name="close" />
          </button>
        </span>
      ))}
      {now !== "" && !isKept && (
        <KeepForm
          label="Save this view"
          testid="view"
          keep={(name) => savedViews.keep(name, now)}
        />
      )}
      <KeptNote />
      {now !== "" && (
        <button type="button" className="quiet" data-testid="view-plain" onClick={() => showView("")}>
          Show all
        </button>
      )}
    </div>
  );
}
