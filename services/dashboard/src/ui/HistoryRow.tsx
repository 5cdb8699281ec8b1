/** One batch in the history; live batches move here as in the running panel. */

import { memo, type MouseEvent } from "react";

import { isLive, isOverBudget, type BatchView } from "../contract";
import type { Column } from "../historyView";
import { useSteady } from "../live/hooks";
import { useWorld } from "../live/world";
import { showBatch } from "../place";
import { toggle, useIsChosen } from "../selection";
import { grouped, localTime, tokens } from "../words";
import { BatchLink } from "./Link";
import { failing, following, useMoving, writeCost, writeDuration, writeGenerated } from "./moving";
import { Foreign, ModelName, ProgressBar, StateChip } from "./parts";
import { StopButton } from "./StopButton";

export const HistoryRow = memo(function HistoryRow(props: {
  answered: BatchView;
  /** The columns shown, joined: the same text until they change. */
  columns: string;
  isSeen: boolean;
}) {
  const { answered, columns, isSeen } = props;
  const batch = useSteady(answered.id, answered);
  const moves = useMoving(batch, answered, isSeen);
  const { id } = batch;
  const { at } = useWorld();
  const isChosen = useIsChosen(id);
  const shows = (column: Column): boolean => columns.split(",").includes(column);
  const open = (event: MouseEvent<HTMLElement>): void => {
    const isControl = event.target instanceof Element && event.target.closest("button, a, label");
    const isSelecting = getSelection()?.type === "Range";
    if (!isControl && !isSelecting) showBatch(id, at);
  };
  return (
    <tr
      role="row"
      className={isChosen ? "history-row is-chosen" : "history-row"}
      data-testid="history-row"
      data-batch={id}
      data-state={batch.state}
      onClick={open}
    >
      <td role="cell">
        {at === null && (
          <label className="choice">
            <input
              type="checkbox"
              data-testid="choose"
              aria-label={`Choose ${id}`}
              checked={isChosen}
              onChange={() => toggle(id)}
            />
          </label>
        )}
        <StateChip state={batch.state} />
        {isOverBudget(batch) && (
          <span className="tag" data-testid="over-budget" title={batch.stop_reason ?? undefined}>
            budget
          </span>
        )}
      </td>
      <td role="cell">
        <BatchLink id={id} />
        <Started at={batch.started_at} />
      </td>
      {shows("model") && (
        <td role="cell" data-label="Model">
          <ModelName batch={batch} />
        </td>
      )}
      {shows("recipe") && (
        <td role="cell">
          <Foreign>{batch.recipe}</Foreign>
        </td>
      )}
      {shows("priority") && (
        <td role="cell" data-label="priority">
          {batch.priority}
        </td>
      )}
      <td role="cell" className="progress-cell">
        <span data-testid="progress">
          <b ref={moves(writeGenerated)} /> / {grouped(batch.target)}
        </span>
        <ProgressBar batch={batch} moves={moves} />
      </td>
      {shows("failed") && (
        <td role="cell" className="number" data-label="failed" ref={moves(writeFailed)} />
      )}
      {shows("tokens") && (
        <td
          role="cell"
          className="number"
          data-label="tokens"
          data-testid="tokens"
          ref={moves(writeTokens)}
        />
      )}
      {shows("cost") && (
        <td
          role="cell"
          className="number"
          data-label="cost"
          data-testid="cost"
          ref={moves(writeCost)}
        />
      )}
      {shows("duration") && (
        <td role="cell" className="number" data-testid="duration" ref={moves(writeDuration)} />
      )}
      <td role="cell" className="actions">
        {isLive(batch.state) && <StopButton batch={batch} />}
      </td>
    </tr>
  );
});

const Started = memo(function Started({ at }: { at: string }) {
  return (
    <time className="muted" dateTime={at}>
      {localTime(at)}
    </time>
  );
});

const writeFailed = failing(grouped);
const writeTokens = following(({ batch }) => grouped(tokens(batch.counts)));
