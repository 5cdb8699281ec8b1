/** All batches, newest first: pages and filters from the server, live rows from the stream. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";

import { listBatches, SEARCH_MOST } from "../calls";
import { STATES, type BatchPage, type BatchView, type State } from "../contract";
import { useConnection, useRecentIds } from "../live/hooks";
import { store } from "../live/session";
import { newestFirst } from "../live/store";
import { useWorld } from "../live/world";
import { useParameter } from "../place";
import { toggle, useChosen } from "../selection";
import { useSettled } from "../settled";
import { TOGETHER } from "../together";
import { wordsOf } from "../words";
import { HistoryRow } from "./HistoryRow";
import { KeyHelp, Later } from "./later";
import { Empty, Pager, StateChip, Trouble } from "./parts";
import { TogetherBar, useRehearsal } from "./Together";
import { useKeys, type Keyed } from "./useKeys";

const PAGE = 25;
const SORTS = [
  ["-started", "newest first"],
  ["started", "oldest first"],
  ["-finished", "latest end first"],
  ["-progress", "furthest first"],
  ["-cost", "dearest first"],
  ["-samples", "most samples first"],
] as const;
const COLUMNS = ["State", "Batch", "Model", "Progress", "Failed", "Tokens", "Cost", "Duration"];

export function History({ isPage = false }: { isPage?: boolean }) {
  const Title = isPage ? "h1" : "h2";
  const [asked, setState] = useParameter("state");
  const state = STATES.find((one) => one === asked) ?? null;
  const [text, setText] = useParameter("q");
  const [sort, setSort] = useParameter("sort", SORTS[0][0]);
  const [cursors, setCursors] = useState<readonly string[]>([]);
  const search = useSettled(text.trim());
  const connection = useConnection().state;
  const { at } = useWorld();
  const [turnedAt, setTurnedAt] = useState(at);
  if (turnedAt !== at) {
    setTurnedAt(at);
    setCursors([]); // They lead through the pages of another moment.
  }
  const cursor = cursors.at(-1) ?? null;
  const page = useQuery({
    queryKey: ["history", state, search, sort, cursor, at],
    queryFn: ({ signal }) =>
      listBatches(
        {
          states: state ? [state] : [],
          text: search,
          sort,
          cursor,
          limit: PAGE,
          minSequence: store.movedAt(),
          at,
        },
        signal,
      ),
    placeholderData: keepPreviousData,
    // The stream tells when to ask again; without it the clock does.
    refetchInterval: connection === "polling" && at === null ? 5_000 : false,
  });
  useRecentIds();
  const rows = page.data ? withNew(page.data, state, at === null && cursor === null && search === "" && sort === SORTS[0][0]) : [];
  const first = (): void => setCursors([]);
  const { ask, dialog } = useRehearsal();
  const chosen = useChosen();
  const [isHelping, setHelping] = useState(false);
  const isNow = at === null;
  const keyed = useMemo<Keyed>(() => {
    const stop = (id: string | null): void => {
      const ids = chosen.size > 0 ? [...chosen] : id ? [id] : [];
      if (isNow && ids.length > 0) void ask(TOGETHER[0], ids);
    };
    return { choose: (id) => isNow && toggle(id), stop, help: () => setHelping(true) };
  }, [chosen, isNow, ask]);
  useKeys(keyed);
  return (
    <section className="card history" id="history" aria-labelledby="history-title">
      <header className="card-head">
        <Title id="history-title">{isPage ? "Batches" : at === null ? "History" : "History then"}</Title>
        <label className="sort">
          Sort{" "}
          <select
            data-testid="history-sort"
            value={sort}
            onChange={(event) => {
              setSort(event.target.value);
              first();
            }}
          >
            {SORTS.map(([value, name]) => (
              <option key={value} value={value}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <input
          type="search"
          data-testid="history-search"
          aria-label="Search batches by id, model or text"
          placeholder="Search"
          maxLength={SEARCH_MOST}
          value={text}
          onChange={(event) => {
            setText(event.target.value);
            first();
          }}
        />
      </header>
      <StateFilter
        counts={page.data?.states ?? {}}
        chosen={state}
        choose={(next) => {
          setState(next ?? "");
          first();
        }}
      />
      {page.error && (
        <Trouble
          what="The history could not be read"
          words={wordsOf(page.error)}
          retry={() => void page.refetch()}
        />
      )}
      {isNow && (
        <TogetherBar ask={(command) => void ask(command, [...chosen])} />
      )}
      {rows.length > 0 && <Rows rows={rows} />}
      {page.data && rows.length === 0 && (
        <Empty testid="history-empty">
          {state || search
            ? "No batch matches. Choose “All” or clear the search to see every batch."
            : at !== null
              ? "There was no batch yet at that moment."
              : "No batches yet. Press “Add new batch” above to generate the first samples."}
        </Empty>
      )}
      {page.isPending && <Empty>Reading the history…</Empty>}
      <Pager
        page={cursors.length}
        label="Pages of the history"
        hasNext={page.data?.next_cursor != null}
        onPrevious={() => setCursors(cursors.slice(0, -1))}
        onNext={() => page.data?.next_cursor && setCursors([...cursors, page.data.next_cursor])}
      />
      <p className="muted key-note">
        <button
          type="button"
          className="quiet"
          data-testid="key-help-open"
          onClick={() => setHelping(true)}
        >
          Keys: press ?
        </button>
      </p>
      {dialog}
      <Later when={isHelping}>
        <KeyHelp isOpen={isHelping} onClose={() => setHelping(false)} />
      </Later>
    </section>
  );
}

function Rows({ rows }: { rows: readonly BatchView[] }) {
  return (
    // The roles are said again since a narrow page lays the table out as cards.
    <table role="table" className="history-table">
      <thead role="rowgroup">
        <tr role="row">
          {COLUMNS.map((name) => (
            <th key={name} role="columnheader" scope="col">
              {name}
            </th>
          ))}
          <th role="columnheader" scope="col">
            <span className="for-readers">Actions</span>
          </th>
        </tr>
      </thead>
      <tbody role="rowgroup">
        {rows.map((batch) => (
          <HistoryRow key={batch.id} answered={batch} />
        ))}
      </tbody>
    </table>
  );
}

/** The page's rows, and on the first page those that began after it was made. */
function withNew(page: BatchPage, state: State | null, isFirst: boolean): BatchView[] {
  if (!isFirst) return page.batches;
  const newest = page.batches[0];
  const listed = new Set(page.batches.map(({ id }) => id));
  const began = store
    .recent()
    .map((id) => store.get(id))
    .filter((batch) => batch !== undefined)
    .filter((batch) => batch.sequence > page.as_of && !listed.has(batch.id))
    .filter((batch) => newest === undefined || newestFirst(batch, newest) < 0)
    .filter((batch) => state === null || batch.state === state);
  return [...began, ...page.batches];
}

function StateFilter(props: {
  counts: Partial<Record<State, number>>;
  chosen: State | null;
  choose(state: State | null): void;
}) {
  const total = Object.values(props.counts).reduce((sum, count) => sum + count, 0);
  const shown = STATES.filter((state) => props.counts[state] || state === props.chosen);
  return (
    <div className="filters" role="group" aria-label="Filter by state">
      <button
        type="button"
        data-testid="filter-all"
        aria-pressed={props.chosen === null}
        onClick={() => props.choose(null)}
      >
        All {total.toLocaleString()}
      </button>
      {shown.map((state) => (
        <button
          key={state}
          type="button"
          data-testid={`filter-${state}`}
          aria-pressed={props.chosen === state}
          onClick={() => props.choose(state)}
        >
          <StateChip state={state} count={props.counts[state] ?? 0} />
        </button>
      ))}
    </div>
  );
}
