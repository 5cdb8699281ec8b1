/** Who did what to a batch, when, from where and why; what was refused stands among it. */

import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { entriesOf, type Entry } from "../auditTrail";
import { getEvents, getRefusals, REFUSALS_MOST } from "../calls";
import { isLive, type BatchView } from "../contract";
import { useAt } from "../place";
import { localTime, plural, UNKNOWN, wordsOf } from "../words";
import { Empty, Foreign, Trouble } from "./parts";

const REFRESH_MS = 3_000;
const MOST = 1000;
const COLUMNS = ["When", "Who", "From", "What", "Why", "Command"];

export function BatchAudit({ batch }: { batch: BatchView }) {
  const at = useAt();
  const key = ["batch", batch.id, "audit", isLive(batch.state), at];
  const options = {
    placeholderData: keepPreviousData,
    refetchInterval: at === null && isLive(batch.state) && REFRESH_MS,
  } as const;
  const stored = useQuery({
    queryKey: [...key, "control"],
    queryFn: ({ signal }) =>
      getEvents(batch, { after: 0, limit: MOST, kind: "control" }, at, signal),
    ...options,
  });
  const notes = useQuery({
    queryKey: [...key, "note"],
    queryFn: ({ signal }) => getEvents(batch, { after: 0, limit: MOST, kind: "note" }, at, signal),
    ...options,
  });
  const refused = useQuery({
    queryKey: [...key, "refused"],
    queryFn: ({ signal }) => getRefusals(batch.id, signal),
    ...options,
  });
  const asked = [stored, notes, refused];
  const error = asked.find((answer) => answer.error)?.error;
  const entries = entriesOf(
    [...(stored.data?.events ?? []), ...(notes.data?.events ?? [])],
    refused.data?.refusals ?? [],
    at,
  );
  return (
    <>
      {error && (
        <Trouble
          what="The trail could not be read"
          words={wordsOf(error)}
          retry={() => void Promise.all(asked.map((answer) => answer.refetch()))}
        />
      )}
      {stored.isPending && <Empty>Reading the trail…</Empty>}
      {entries.length > 0 && (
        <table role="table" className="audit-table">
          <thead role="rowgroup">
            <tr role="row">
              {COLUMNS.map((name) => (
                <th key={name} role="columnheader" scope="col">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody role="rowgroup">
            {entries.map((entry) => (
              <Row key={entry.sequence} entry={entry} />
            ))}
          </tbody>
        </table>
      )}
      {asked.some(({ data }) => data?.next_cursor != null) && (
        <p className="muted" data-testid="audit-cut">
          The first {plural(MOST, "event")} and {plural(REFUSALS_MOST, "refusal")} are shown; the tab
          Events has all events, and <code>/v1/audit/refusals</code> all refusals.
        </p>
      )}
    </>
  );
}

function Row({ entry }: { entry: Entry }) {
  const { sequence, time, who, address, what, why, commandId, refusal } = entry;
  return (
    <tr
      role="row"
      className={refusal ? "is-refused" : undefined}
      data-testid="audit-entry"
      data-kind={refusal ? "refused" : "done"}
    >
      <td role="cell">
        <time dateTime={time}>{localTime(time)}</time>
        <br />
        <small className="mono">{sequence}</small>
      </td>
      <td role="cell" data-label="Who">
        <Foreign>{who}</Foreign>
      </td>
      <td role="cell" data-label="From">
        {address ? <Foreign>{address}</Foreign> : UNKNOWN}
      </td>
      <td role="cell" data-label="What">
        <b>{what}</b>
        {refusal && (
          <p className="is-bad">
            <Foreign>{refusal}</Foreign>
          </p>
        )}
      </td>
      <td role="cell" data-label="Why">
        {why ? <Foreign>{why}</Foreign> : UNKNOWN}
      </td>
      <td role="cell" data-label="Command" className="mono command-id">
        {commandId ? <Foreign>{commandId}</Foreign> : UNKNOWN}
      </td>
    </tr>
  );
}
