/** Starting a batch: the dialog closes at once and comes back only with an error. */

import { useCallback, useRef, useState } from "react";

import { startBatch } from "../calls";
import { Problem, randomKey } from "../http";
import { store } from "../live/session";
import { keepChoice, lastChoice, toBody, type StartValues } from "../start";
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
  // A repeat after a lost answer carries the same key, so that it can't start a second batch.
  const unanswered = useRef<{ body: string; key: string } | null>(null);

  const open = useCallback(() => setOpen(true), []);
  const close = useCallback(() => {
    setOpen(false);
    setProblem(null);
  }, []);
  const change = useCallback(
    (change: Partial<StartValues>) => setValues((before) => ({ ...before, ...change })),
    [],
  );

  const send = async (): Promise<void> => {
    const body = toBody(values);
    const text = JSON.stringify(body);
    const key = unanswered.current?.body === text ? unanswered.current.key : randomKey();
    unanswered.current = null;
    try {
      store.push((await startBatch(body, key)).batch);
    } catch (error) {
      const failed = error instanceof Problem ? error : new Problem(wordsOf(error), 0);
      if (failed.status === 0) unanswered.current = { body: text, key };
      setProblem(failed);
      setOpen(true);
    }
  };

  const submit = (): void => {
    keepChoice(values);
    close();
    setSending((count) => count + 1);
    void send().finally(() => setSending((count) => count - 1));
  };

  return { isOpen, isSending: sending > 0, values, problem, open, close, change, submit };
}
