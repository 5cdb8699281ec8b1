/** What can be done to the chosen batches, each after a look at what would come of it. */

import { useCallback, useState } from "react";

import { letAllGo, useChosen } from "../selection";
import { perform, rehearse, TOGETHER, type Rehearsal, type Together } from "../together";
import { plural } from "../words";
import { Confirm, Later } from "./later";
import { Foreign } from "./parts";

const REFUSALS_SHOWN = 5;

export function TogetherBar({ ask }: { ask(command: Together): void }) {
  const chosen = useChosen();
  if (chosen.size === 0) return null;
  return (
    <div className="together" role="group" aria-label="The chosen batches" data-testid="together">
      <span role="status">{plural(chosen.size, "batch", "batches")} chosen</span>
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
      <button type="button" className="quiet" data-testid="together-clear" onClick={letAllGo}>
        Choose none
      </button>
    </div>
  );
}

/** The question with its answer in advance, and the way to ask it. */
export function useRehearsal() {
  const [found, setFound] = useState<Rehearsal | null>(null);
  const [isOpen, setOpen] = useState(false);
  const ask = useCallback(async (command: Together, ids: readonly string[]): Promise<void> => {
    const rehearsal = await rehearse(command, ids);
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
          action={found.takes.length ? `${found.command.name} ${found.takes.length}` : null}
          onClose={() => setOpen(false)}
          onConfirm={() => {
            letAllGo();
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

function titleOf({ command, takes }: Rehearsal): string {
  if (takes.length === 0) return `None of them can be ${command.done}`;
  return `${command.name}: ${plural(takes.length, "batch", "batches")}?`;
}

function Outlook({ rehearsal: { command, takes, refused } }: { rehearsal: Rehearsal }) {
  return (
    <>
      {takes.length > 0 && (
        <span>
          {plural(takes.length, "batch", "batches")} will be {command.done}
          {command.action === "stop" && ": calls in flight are cancelled, samples made are kept"}.
        </span>
      )}
      {refused.length > 0 && (
        <span data-testid="outlook-refused" className="outlook">
          {takes.length > 0 && `${refused.length} will not:`}
          {refused.slice(0, REFUSALS_SHOWN).map(({ id, detail, status }) => (
            <span key={id}>
              <Foreign>{detail || `${id}: ${status}`}</Foreign>
            </span>
          ))}
          {refused.length > REFUSALS_SHOWN && (
            <span>and {refused.length - REFUSALS_SHOWN} more</span>
          )}
        </span>
      )}
    </>
  );
}
