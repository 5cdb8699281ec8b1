/** Buttons for every command that the batch takes now. */

import { useState, type MouseEvent } from "react";

import { ask, askPriority, useAsked } from "../commanding";
import type { CommandName } from "../calls";
import { isLive, type BatchView } from "../contract";
import { randomKey } from "../http";
import { PRIORITIES } from "../together";
import { grouped, spaced } from "../words";
import { Icon } from "./Icon";
import { Foreign } from "./parts";
import { StopButton, StopError } from "./StopButton";

interface Choice {
  command: CommandName;
  name: string;
  testid: string;
  words: string;
  body?: Record<string, unknown>;
}

function choices({ state, counts, target, retry_id, child_id }: BatchView): Choice[] {
  const found: Choice[] = [];
  const add = (command: CommandName, name: string, words: string, testid: string = command) =>
    found.push({ command, name, words, testid });
  if (state === "queued" || state === "running") add("pause", "Pause", "Pausing…");
  if (state === "paused") add("resume", "Resume", "Resuming…");
  if (isLive(state) && state !== "stopping")
    found.push({
      command: "stop",
      name: "Finish calls, then stop",
      testid: "drain",
      words: "Stopping once the calls in flight have ended…",
      body: { mode: "drain" },
    });
  if (!isLive(state) && !child_id) {
    const retried = retry_id ? counts.failed : 0;
    if (counts.failed > retried) add("retry-failed", `Retry ${grouped(counts.failed)} failed`, "Starting a retry…");
    if (counts.generated + retried < target) add("continue", "Make what is left", "Starting a child…");
  }
  add("clone", "Clone", "Starting a clone…");
  return found;
}

/** The second press of a double click; by then another batch's button may stand there. */
const isRepeat = (event: MouseEvent): boolean => event.detail > 1;

export function Commands({ batch }: { batch: BatchView }) {
  const [shown] = useState(randomKey);
  const asked = useAsked(batch.id);
  const isBusy = asked?.isUnderWay === true;
  return (
    <>
      <div className="commands" role="group" aria-label="Commands">
        {choices(batch).map(({ command, name, testid, words, body }) => (
          <button
            key={testid}
            type="button"
            data-testid={`do-${testid}`}
            disabled={isBusy}
            onClick={(event) => {
              if (!isRepeat(event)) void ask(batch, command, words, body ?? {}, shown);
            }}
          >
            {name}
          </button>
        ))}
        {isLive(batch.state) && <StopButton batch={batch} />}
        {isLive(batch.state) && batch.state !== "stopping" && (
          <label>
            Priority{" "}
            <select
              data-testid="do-priority"
              value={batch.priority}
              disabled={isBusy}
              onChange={(event) => void askPriority(batch, event.target.value)}
            >
              {PRIORITIES.map((one) => (
                <option key={one}>{one}</option>
              ))}
            </select>
          </label>
        )}
      </div>
      {asked && (
        <p
          className={isBusy ? "muted" : "row-error"}
          data-testid={isBusy ? "command-asked" : "command-error"}
          role={isBusy ? "status" : "alert"}
        >
          {!isBusy && <Icon name="warning" />} <Foreign>{asked.words}</Foreign>
          {asked.allowed && ` It takes now: ${asked.allowed.map(spaced).join(", ") || "nothing"}.`}
        </p>
      )}
      {isLive(batch.state) && <StopError id={batch.id} />}
    </>
  );
}
