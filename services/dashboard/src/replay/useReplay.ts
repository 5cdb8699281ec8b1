/** A file as it is replayed: opened, checked, and shown as of any of its events. */

import { useCallback, useEffect, useRef, useState } from "react";

import { wordsOf } from "../words";
import type { Checked } from "./check";
import { newWorker, prepareWorker, takeWorker } from "./client";
import type { Moment, Opened } from "./log";
import type { LogWorker } from "./logWorker";

export type ReplayState =
  | { kind: "none" }
  | { kind: "opening"; share: number }
  | { kind: "refused"; words: string }
  | { kind: "open"; opened: Opened; log: LogWorker };

/** Open `file` in a worker of its own. */
export function useOpened(file: File | null): ReplayState {
  const [state, setState] = useState<ReplayState>({ kind: "none" });
  useEffect(() => {
    if (!file) {
      prepareWorker();
      setState({ kind: "none" });
      return undefined;
    }
    let isCurrent = true;
    const log = takeWorker();
    const show = (next: ReplayState): void => {
      if (isCurrent) setState(next);
    };
    show({ kind: "opening", share: 0 });
    log
      .ask("open", { file }, (share) => show({ kind: "opening", share }))
      .then(
        (opened) => show({ kind: "open", opened, log }),
        (error: unknown) => show({ kind: "refused", words: wordsOf(error) }),
      );
    return () => {
      isCurrent = false;
      log.end();
    };
  }, [file]);
  return state;
}

/** Whether the file's lines add up to its manifest; null until that is known. */
export function useChecked(file: File | null, isDue: boolean): Checked | null {
  const [checked, setChecked] = useState<Checked | null>(null);
  useEffect(() => {
    setChecked(null);
    if (!file || !isDue) return undefined;
    let isCurrent = true;
    const worker = newWorker();
    const tell = (found: Checked): void => {
      if (isCurrent) setChecked(found);
      worker.end();
    };
    worker
      .ask("check", { file })
      .then(tell, (error: unknown) =>
        tell({ events: 0, erased: 0, erasedSince: 0, root: "", damage: wordsOf(error) }),
      );
    return () => {
      isCurrent = false;
      worker.end();
    };
  }, [file, isDue]);
  return checked;
}

export interface Seeker {
  moment: Moment | null;
  /** The place that is on its way or shown. */
  wanted: number;
  words: string | null;
  seek(events: number): void;
}

/** The batch `id` after `last` events, or after as many as are asked for; the latest wish wins. */
export function useSeeker(log: LogWorker, id: string, last: number): Seeker {
  const [moment, setMoment] = useState<Moment | null>(null);
  const [wanted, setWanted] = useState(last);
  const [words, setWords] = useState<string | null>(null);
  const next = useRef<number | null>(null);
  const isBusy = useRef(false);
  const isGone = useRef(false);
  const run = useCallback(async (): Promise<void> => {
    isBusy.current = true;
    try {
      while (next.current !== null && !isGone.current) {
        const events = next.current;
        next.current = null;
        const found = await log.ask("seek", { id, events });
        if (!isGone.current) setMoment(found);
      }
      if (!isGone.current) setWords(null);
    } catch (error) {
      if (!isGone.current) setWords(wordsOf(error));
    } finally {
      isBusy.current = false;
    }
  }, [log, id]);
  const seek = useCallback(
    (events: number): void => {
      next.current = events;
      setWanted(events);
      if (!isBusy.current) void run();
    },
    [run],
  );
  useEffect(() => {
    isGone.current = false;
    seek(last);
    return () => {
      isGone.current = true;
    };
  }, [seek, last]);
  return { moment, wanted, words, seek };
}
