/** Starting a batch: the dialog closes at once, starts one, and comes back only with an error. */

import { useCallback, useRef, useState } from "react";

import { startBatch } from "../calls";
import { Problem } from "../http";
import { store } from "../live/session";
import { keepChoice, lastChoice, toBody, type StartValues } from "../start";
import { Unanswered } from "../unanswered";
import { wordsOf } from "../words";

export interface Start {
  isOpen: boolean;
  isSending: boolean;
  values: StartValues;
  problem: Problem | null;
  open(): void;
  close(): void;
  change(change: Partial<StartValues>): void;
  submit(): void;
}

export function useStart(): Start {
  const [isOpen, setOpen] = useState(false);
  const [sending, setSending] = useState(0);
  const [values, setValues] = useState(lastChoice);
  const [problem, setProblem] = useState<Problem | null>(null);
  // A repeat after a lost answer can't start a second batch.
  const [unanswered] = useState(() => new Unanswered());

  // Not state: a second click may come before the first one's state is drawn.
  const mayStart = useRef(false);

  const open = useCallback(() => {
    mayStart.current = true;
    setOpen(true);
  }, []);
  const close = useCallback(() => {
    mayStart.current = false;
    setOpen(false);
    setProblem(null);
  }, []);
  const change = useCallback(
    (change: Partial<StartValues>) => setValues((before) => ({ ...before, ...change })),
    [],
  );

  const send = async (): Promise<void> => {
    try {
      store.push((await unanswered.ask(toBody(values), startBatch)).batch);
    } catch (error) {
      setProblem(error instanceof Problem ? error : new Problem(wordsOf(error), 0));
      open();
    }
  };

  const submit = (): void => {
    if (!mayStart.current) return;
    keepChoice(values);
    close();
    setSending((count) => count + 1);
    void send().finally(() => setSending((count) => count - 1));
  };

  return { isOpen, isSending: sending > 0, values, problem, open, close, change, submit };
}
