/** The proof of a batch as the page asks for it: under way, done, or failed; and the way to end it. */

import { useCallback, useEffect, useRef, useState } from "react";

import { wordsOf } from "../words";
import { newWorker } from "./client";
import type { LogWorker } from "./logWorker";
import type { Proof } from "./prove";

export type ProofState =
  | { kind: "none" }
  | { kind: "running"; events: number }
  | { kind: "failed"; words: string }
  | Proof;

export function useProof(id: string, at: number | null): {
  state: ProofState;
  start(): void;
  cancel(): void;
} {
  const [state, setState] = useState<ProofState>({ kind: "none" });
  const worker = useRef<LogWorker | null>(null);
  const end = useCallback((): void => {
    const running = worker.current;
    worker.current = null;
    running?.end();
  }, []);
  const cancel = useCallback((): void => {
    end();
    setState({ kind: "none" });
  }, [end]);
  const start = useCallback((): void => {
    end();
    const mine = newWorker();
    worker.current = mine;
    const show = (next: ProofState): void => {
      if (worker.current === mine) setState(next);
    };
    show({ kind: "running", events: 0 });
    mine
      .ask("prove", { id, at }, (events) => show({ kind: "running", events }))
      .then(show, (error: unknown) => show({ kind: "failed", words: wordsOf(error) }))
      .finally(() => {
        if (worker.current === mine) end();
      });
  }, [id, at, end]);
  // A proof is of one moment of one batch: another one begins anew, and nothing runs on unseen.
  useEffect(() => cancel, [cancel, id, at]);
  return { state, start, cancel };
}
