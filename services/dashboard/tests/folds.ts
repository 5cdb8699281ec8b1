/** What the fold's tests share: the mirror of `millstream.testing.folds`. */

import { apply, countsOf, newBatch, type BatchState } from "../src/fold/batch";
import { digestOf } from "../src/fold/digest";
import { readEvent } from "../src/fold/events";
import { isManifest, readLine, textOf, type StoredLine } from "../src/fold/export";
import { hexOf } from "../src/fold/masks";
import { viewOf } from "../src/fold/view";

const STEP = 10;

/** Everything that decides how a batch goes on. */
function stateDocument(state: BatchState): Record<string, unknown> {
  const slices = [...state.slices.entries()].map(([index, tail]) => [
    String(index),
    [tail.sequence, tail.state, hexOf(tail.late)],
  ]);
  return {
    phase: state.phase,
    sequences: [state.sequence, state.controlSequence, state.noteSequence],
    counts: countsOf(state),
    errors: state.errors,
    last_error: state.lastError,
    stuck: state.stuck,
    held_up: state.heldUp,
    budgets_warned: state.budgetsWarned,
    retry_id: state.retryId,
    child_id: state.childId,
    late: state.late,
    anomalies: state.anomalies,
    slices: Object.fromEntries(slices),
    view: viewOf(state),
  };
}

export function statesDigest(states: Iterable<BatchState>): string {
  return digestOf(
    Object.fromEntries([...states].map((state) => [state.batchId, stateDocument(state)])),
  );
}

export function linesOf(text: string): StoredLine[] {
  const found = text.split("\n").filter(Boolean).map(readLine);
  return found.filter((line): line is StoredLine => !isManifest(line));
}

export interface Outcome {
  digests: Record<string, string>;
  states: Map<string, BatchState>;
  unknown: number;
  malformed: number;
  system: number;
}

/** Fold a log, with a digest after every tenth event and after the last one. */
export function foldAll(log: readonly StoredLine[]): Outcome {
  const outcome: Outcome = {
    digests: {},
    states: new Map(),
    unknown: 0,
    malformed: 0,
    system: 0,
  };
  for (const [place, line] of log.entries()) {
    const found = readEvent(textOf(line));
    if (found.kind === "event") {
      const id = found.event.batch_id;
      const before = outcome.states.get(id) ?? newBatch(id);
      const recorded = { sequence: line.sequence, storedAt: line.timeUs, event: found.event };
      outcome.states.set(id, apply(before, recorded));
    } else outcome[found.kind] += 1;
    if ((place + 1) % STEP === 0 || place + 1 === log.length)
      outcome.digests[line.sequence] = statesDigest(outcome.states.values());
  }
  return outcome;
}
