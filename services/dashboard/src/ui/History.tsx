/** All batches, newest first: pages and filters from the server, live rows from the stream. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useMemo, useState, type CSSProperties } from "react";

import { listBatches, type HistoryQuestion } from "../calls";
import { useShares } from "../columnWidths";
import type { BatchPage, BatchView, State } from "../contract";
import { COLUMNS, isNarrow, isPlain, useFilter, useHistoryView } from "../historyView";
import { useConnection, useRecentIds } from "../live/hooks";
import { store } from "../live/session";
import { newestFirst } from "../live/store";
import { useWorld } from "../live/world";
import { letAllGo, toggle, useChosen } from "../selection";
import { STOP } from "../together";
import { plural, wordsOf } from "../words";
import { ColumnEdge } from "./ColumnEdge";
import { HistoryControls, SavedViews, StateFilter } from "./HistoryControls";
import { HistoryFiles } from "./HistoryFiles";
import { HistoryRow } from "./HistoryRow";
import { useKeys, type Deeds } from "./keys";
import { Empty, Pager, Trouble } from "./parts";
import { TogetherBar, useRehearsal } from "./Together";
import { useIsDrawn } from "./useIsDrawn";

const PAGE = 25;

export function History({ isPage = false }: { isPage?: boolean }) {
  const Title = isPage ? "h1" : "h2";
  const view = useHistoryView();
  const filter = useFilter(view);
  const { at } = useWorld();
  const asked = JSON.stringify([filter, view.sort, at]);
  const [walk, setWalk] = useState({ asked, cursors: NONE });
  // Cursors lead through the pages of this filter, order and moment alone.
  const cursors = walk.asked === asked ? walk.cursors : NONE;
  const cursor = cursors.at(-1) ?? null;
  const [allOf, setAllOf] = useState("");
  const page = useHistoryPage({ ...filter, sort: view.sort, cursor, at });
  useRecentIds();
  const isNow = at === null;
  const isNewest = isNow && cursor === null && !filter.text && isPlain(view);
  const rows = page.data ? withNew(page.data, view.state, isNewest && !view.model && !view.recipe) : [];
  const letGo = (): void => {
    letAllGo();
    setAllOf("");
  };
  const { ask, dialog } = useRehearsal(letGo);
  const chosen = useChosen();
  const deeds = useMemo<Deeds>(() => {
    const stop = (id: string | null): void => {
      const ids = chosen.size > 0 ? [...chosen] : id ? [id] : [];
      if (isNow && ids.length > 0) void ask(STOP, { ids });
    };
    return { x: (id) => isNow && id && toggle(id), s: stop };
  }, [chosen, isNow, ask]);
  useKeys(deeds);
  // Until the answer has come, the rows are those of the question before.
  const isLooking = page.isPlaceholderData;
  const total = page.data?.total ?? 0;
  const isAll = isNow && allOf === asked;
  return (
    <section className="card history" id="history" aria-labelledby="history-title">
      <header className="card-head">
        <Title id="history-title">{`${isPage ? "Batches" : "History"}${isNow ? "" : " then"}`}</Title>
        <SavedViews />
      </header>
      <HistoryControls view={view} facets={page.data?.facets ?? {}} />
      <div className="filter-line">
        <StateFilter counts={page.data?.states} chosen={view.state} />
        <span className="muted" role="status" data-testid="history-looking">
          {isLooking && "Looking for what matches…"}
        </span>
        {isNow && total > 1 && !isAll && !isLooking && (
          <button
            type="button"
            className="quiet"
            data-testid="choose-all"
            onClick={() => {
              letAllGo();
              setAllOf(asked);
            }}
          >
            Choose all {plural(total, "batch", "batches")} that match
          </button>
        )}
      </div>
      {page.error && (
        <Trouble
          what="The history could not be read"
          words={wordsOf(page.error)}
          retry={() => void page.refetch()}
        />
      )}
      {isNow && (
        <TogetherBar
          all={isAll && chosen.size === 0 ? total : null}
          ask={(command) =>
            void ask(command, isAll && chosen.size === 0 ? { filter } : { ids: [...chosen] })
          }
          letGo={letGo}
        />
      )}
      {rows.length > 0 && <Rows rows={rows} columns={view.columns} isLooking={isLooking} />}
      {page.data && !isLooking && rows.length === 0 && (
        <Empty testid="history-empty">
          {isNarrow(filter)
            ? "No batch matches. Choose “All” or clear the search to see every batch."
            : isNow && isPage
              ? "No batches yet. Add one on the hub to generate the first samples."
              : isNow
                ? "No batches yet. Press “Add new batch” above to generate the first samples."
                : "There was no batch yet at that moment."}
        </Empty>
      )}
      {page.isPending && <Empty>Reading the history…</Empty>}
      <Pager
        page={cursors.length}
        label="Pages of the history"
        hasNext={page.data?.next_cursor != null}
        onPrevious={() => setWalk({ asked, cursors: cursors.slice(0, -1) })}
        onNext={() =>
          page.data?.next_cursor &&
          setWalk({ asked, cursors: [...cursors, page.data.next_cursor] })
        }
      />
      {rows.length > 0 && (
        <p className="muted history-files">
          <HistoryFiles question={{ ...filter, sort: view.sort, at }} />
        </p>
      )}
      {dialog}
    </section>
  );
}

const NONE: readonly string[] = [];

function useHistoryPage(question: HistoryQuestion) {
  const connection = useConnection().state;
  const isNow = question.at == null;
  return useQuery({
    queryKey: ["history", question],
    queryFn: ({ signal }) =>
      listBatches({ ...question, limit: PAGE, minSequence: store.movedAt() }, signal),
    placeholderData: keepPreviousData,
    // The stream tells when to ask again; without it the clock does.
    refetchInterval: connection === "polling" && isNow ? 5_000 : false,
  });
}

function Rows(props: { rows: readonly BatchView[]; columns: string; isLooking: boolean }) {
  const { rows, columns, isLooking } = props;
  const shown = columns.split(",");
  const titles = COLUMNS.filter(([name]) => shown.includes(name));
  // The progress stands between what a batch is and what it took.
  const heads = [
    ...FIRST,
    ...titles.filter(([name]) => OF_THE_REQUEST.has(name)),
    PROGRESS,
    ...titles.filter(([name]) => !OF_THE_REQUEST.has(name)),
    LAST,
  ];
  const names = heads.map(([name]) => name);
  const shares = useShares(names);
  const [isSeen, ref] = useIsDrawn();
  return (
    <div
      className={isLooking ? "history-rows is-waiting" : "history-rows"}
      ref={ref}
      aria-busy={isLooking}
      style={{ "--rows": rows.length } as CSSProperties}
    >
      {/* The roles are said again since a narrow page lays the table out as cards. */}
      <table role="table" className={shares ? "history-table is-sized" : "history-table"}>
        {shares && (
          <colgroup>
            {shares.map((share, place) => (
              <col key={names[place]} style={{ width: `${share}%` }} />
            ))}
          </colgroup>
        )}
        <thead role="rowgroup">
          <tr role="row">
            {heads.map(([name, title], place) => (
              <th
                key={name}
                role="columnheader"
                scope="col"
                // Its own name, else that of the edge within it would be part of each cell's head.
                aria-label={title}
                className={place > heads.indexOf(PROGRESS) ? "number" : undefined}
              >
                {name === "actions" ? <span className="for-readers">{title}</span> : title}
                {place < heads.length - 1 && (
                  <ColumnEdge {...{ names, place, title }} share={shares?.[place] ?? null} />
                )}
              </th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {rows.map((batch) => (
            <HistoryRow key={batch.id} answered={batch} columns={columns} isSeen={isSeen} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

type Head = readonly [name: string, title: string];
const FIRST: readonly Head[] = [
  ["state", "State"],
  ["batch", "Batch"],
];
const PROGRESS: Head = ["progress", "Progress"];
const LAST: Head = ["actions", "Actions"];
const OF_THE_REQUEST: ReadonlySet<string> = new Set(["model", "recipe", "priority"]);

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
