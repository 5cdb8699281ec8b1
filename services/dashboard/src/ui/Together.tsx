/** What can be done to the chosen batches, each after a look at what would come of it. */

import { useCallback, useState } from "react";

import type { Those } from "../calls";
import { useChosen } from "../selection";
import {
  perform,
  PRIORITIES,
  rehearse,
  TOGETHER,
  toPriority,
  type Rehearsal,
  type Together,
} from "../together";
import { grouped, plural } from "../words";
import { Confirm, Later } from "./later";
import { Foreign } from "./parts";

const REFUSALS_SHOWN = 5;

/** `all`: how many batches match, if all of them are meant. */
export function TogetherBar(props: {
  all: number | null;
  ask(command: Together): void;
  letGo(): void;
}) {
  const chosen = useChosen();
  const { all, ask } = props;
  if (chosen.size === 0 && all === null) return null;
  const words =
    all === null
      ? `${plural(chosen.size, "batch", "batches")} chosen`
      : `All ${plural(all, "batch", "batches")} that match`;
  return (
    <div className="together" role="group" aria-label="The chosen batches" data-testid="together">
      <span role="status">{words}</span>
      {TOGETHER.map((command) => (
        <button
          key={command.action}
          type="button"
          className={command.action === "stop" ? "stop" : undefined}
          data-testid={`together-${command.action}`}
          onClick={() => ask(command)}
        >
          {command.name}
        </button>
      ))}
      <select
        data-testid="together-priority"
        aria-label="Give them a priority"
        value=""
        onChange={(event) => ask(toPriority(event.target.value))}
      >
        <option value="" disabled>
          Priority…
        </option>
        {PRIORITIES.map((one) => (
          <option key={one}>{one}</option>
        ))}
      </select>
      <button type="button" className="quiet" data-testid="together-clear" onClick={props.letGo}>
        Choose none
      </button>
    </div>
  );
}

/** The question with its answer in advance, and the way to ask it; done, `letGo` is called. */
export function useRehearsal(letGo: () => void) {
  const [found, setFound] = useState<Rehearsal | null>(null);
  const [isOpen, setOpen] = useState(false);
  const ask = useCallback(async (command: Together, those: Those): Promise<void> => {
    const rehearsal = await rehearse(command, those);
    if (!rehearsal) return;
    setFound(rehearsal);
    setOpen(true);
  }, []);
  const dialog = (
    <Later when={isOpen}>
      {found && (
        <Confirm
          isOpen={isOpen}
          title={titleOf(found)}
          action={found.takes.length ? `${found.command.name} ${grouped(found.takes.length)}` : null}
          onClose={() => setOpen(false)}
          onConfirm={() => {
            letGo();
            void perform(found);
          }}
        >
          <Outlook rehearsal={found} />
        </Confirm>
      )}
    </Later>
  );
  return { ask, dialog };
}

function titleOf({ command, takes, same, refused }: Rehearsal): string {
  if (takes.length === 0 && same > 0 && refused.length === 0) return `All of them are ${command.is}`;
  if (takes.length === 0) return `None of them can be ${command.done}`;
  return `${command.name}: ${plural(takes.length, "batch", "batches")}?`;
}

function Outlook({ rehearsal: { command, takes, same, refused } }: { rehearsal: Rehearsal }) {
  const told = new Map<string, number>();
  for (const { id, detail, status } of refused) {
    const words = detail || `${id}: ${status}`;
    told.set(words, (told.get(words) ?? 0) + 1);
  }
  const shown = [...told].slice(0, REFUSALS_SHOWN);
  const rest = refused.length - shown.reduce((sum, [, count]) => sum + count, 0);
  return (
    <>
      {takes.length > 0 && (
        <span>
          {plural(takes.length, "batch", "batches")} will be {command.done}
          {command.action === "stop" && ": calls in flight are cancelled, samples made are kept"}.
        </span>
      )}
      {same > 0 && (
        <span data-testid="outlook-same">
          {plural(same, "batch is", "batches are")} {command.is}.
        </span>
      )}
      {refused.length > 0 && (
        <span data-testid="outlook-refused" className="outlook">
          {takes.length > 0 && `${grouped(refused.length)} will not:`}
          {shown.map(([words, count]) => (
            <span key={words}>
              <Foreign>{words}</Foreign>
              {count > 1 && ` (${plural(count, "batch", "batches")})`}
            </span>
          ))}
          {rest > 0 && <span>and {grouped(rest)} more</span>}
        </span>
      )}
    </>
  );
}
