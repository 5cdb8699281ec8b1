/**
 * The fold of one batch, state × event → state: the mirror of `millstream.domain.batch`.
 *
 * It is pure and total: any history folds; events that break a rule change nothing but
 * `anomalies`. Both folds are held to the same states by `tests/golden/folds` and by histories
 * driven by chance.
 */

import type {
  BatchEvent,
  BatchStarted,
  BatchStopRequested,
  ControlEvent,
  Counts,
  ErrorInfo,
  LastEvent,
  SliceEvent,
  SliceState,
  StuckFinding,
} from "./events";
import { and, countOf, fullMask, NONE, or, without, type Mask } from "./masks";
import { annotated, silenced, stillHeldUp, type HeldUp } from "./notes";
import { areEqual, merge, NEW_STATE, resolved } from "./slices";
import { movedErrors, movedTotals, NO_TOTALS, type Totals } from "./totals";
import { Tree } from "./tree";

/** An event and its place in the log; `storedAt` is the stream's clock in µs since 1970. */
export interface Recorded<E extends BatchEvent = BatchEvent> {
  sequence: number;
  storedAt: number;
  event: E;
}

export type Phase =
  | "unknown"
  | "active"
  | "paused"
  | "stopping"
  | "stopped"
  | "completed"
  | "failed";

/** One slice: its state, its last event, and the slots whose outcome came after the end. */
export interface SliceTail {
  sequence: number;
  state: SliceState;
  late: Mask;
}

export interface BatchState {
  batchId: string;
  phase: Phase;
  started: Recorded<BatchStarted> | null;
  stop: Recorded<BatchStopRequested> | null;
  finishedAt: number | null;
  finalCounts: Counts | null;
  error: ErrorInfo | null;
  controlSequence: number;
  noteSequence: number;
  sequence: number;
  slices: Tree<SliceTail>;
  totals: Totals;
  errors: Record<string, number>;
  lastError: ErrorInfo | null;
  lastProgressAt: number | null;
  stuck: StuckFinding | null;
  heldUp: HeldUp | null;
  budgetsWarned: readonly string[];
  /** The child that makes the failed samples alone, and the one that makes all that was left. */
  retryId: string | null;
  childId: string | null;
  changedPriority: string | null;
  late: number;
  anomalies: number;
}

export function newBatch(batchId: string): BatchState {
  return {
    batchId,
    phase: "unknown",
    started: null,
    stop: null,
    finishedAt: null,
    finalCounts: null,
    error: null,
    controlSequence: 0,
    noteSequence: 0,
    sequence: 0,
    slices: Tree.empty(),
    totals: NO_TOTALS,
    errors: {},
    lastError: null,
    lastProgressAt: null,
    stuck: null,
    heldUp: null,
    budgetsWarned: [],
    retryId: null,
    childId: null,
    changedPriority: null,
    late: 0,
    anomalies: 0,
  };
}

const NEW_TAIL: SliceTail = { sequence: 0, state: NEW_STATE, late: NONE };

/** Control event -> phases in which it may come. */
const LEGAL: Record<ControlEvent["type"], readonly Phase[]> = {
  "batch.started.v1": ["unknown"],
  "batch.paused.v1": ["active"],
  "batch.resumed.v1": ["paused"],
  "batch.priority_changed.v1": ["active", "paused"],
  "batch.stop_requested.v1": ["active", "paused"],
  "batch.stopped.v1": ["stopping"],
  "batch.completed.v1": ["active", "paused"],
  "batch.failed.v1": ["stopping"],
};

const LAST_PHASE: Record<LastEvent["type"], Phase> = {
  "batch.stopped.v1": "stopped",
  "batch.completed.v1": "completed",
  "batch.failed.v1": "failed",
};

/** Events that show a live worker at work; a claim or a stop does not. */
const PROGRESS: readonly string[] = [
  "sample.generated.v1",
  "sample.attempt_failed.v1",
  "sample.rejected.v1",
  "sample.failed.v1",
];

export function isFinal({ phase }: BatchState): boolean {
  return phase === "stopped" || phase === "completed" || phase === "failed";
}

/** Whether the batch was started and has not ended. */
export function isLive(state: BatchState): boolean {
  return state.phase !== "unknown" && !isFinal(state);
}

/** What became of the slots, and the cost; for an ended batch as its last event found it. */
export function countsOf(state: BatchState): Counts {
  if (state.finalCounts) return state.finalCounts;
  const { totals } = state;
  const target = state.started?.event.spec.target ?? 0;
  const done = totals.generated + totals.failed + totals.abandoned;
  return { ...totals, pending: Math.max(0, target - done) };
}

/** The state after one stored event; one that was folded already changes nothing. */
export function apply(state: BatchState, recorded: Recorded): BatchState {
  const { event } = recorded;
  if ("after" in event) return applySlice(state, recorded as Recorded<SliceEvent>);
  if (event.type in LEGAL) return applyControl(state, recorded as Recorded<ControlEvent>);
  if (event.type === "sample.redacted.v1") return silenced(state, recorded.sequence, event);
  if (recorded.sequence <= state.noteSequence) return state;
  return {
    ...state,
    noteSequence: recorded.sequence,
    sequence: Math.max(state.sequence, recorded.sequence),
    ...annotated(state, recorded),
  };
}

function applyControl(before: BatchState, recorded: Recorded<ControlEvent>): BatchState {
  const { sequence, event } = recorded;
  if (sequence <= before.controlSequence) return before;
  const mayCome = isLegal(before, event);
  const state: BatchState = {
    ...before,
    controlSequence: sequence,
    sequence: Math.max(before.sequence, sequence),
    anomalies: before.anomalies + Number(!mayCome),
  };
  if (!mayCome) return state;
  switch (event.type) {
    case "batch.started.v1":
      return { ...state, phase: "active", started: { ...recorded, event } };
    case "batch.paused.v1":
      return { ...state, phase: "paused" };
    case "batch.resumed.v1":
      return { ...state, phase: "active" };
    case "batch.priority_changed.v1":
      return { ...state, changedPriority: event.priority };
    case "batch.stop_requested.v1":
      return { ...state, phase: "stopping", stop: { ...recorded, event } };
    case "batch.stopped.v1":
    case "batch.completed.v1":
    case "batch.failed.v1":
      return ended(state, recorded.storedAt, event);
  }
}

function isLegal(state: BatchState, event: ControlEvent): boolean {
  if (!LEGAL[event.type].includes(state.phase))
    return event.type === "batch.stop_requested.v1" && isUpgrade(state, event.mode);
  return event.type !== "batch.completed.v1" || countsOf(state).pending === 0;
}

/** Whether a stop of this mode is stronger than the one under way. */
function isUpgrade(state: BatchState, mode: string): boolean {
  return state.phase === "stopping" && mode === "cancel" && state.stop?.event.mode === "drain";
}

function ended(state: BatchState, at: number, event: LastEvent): BatchState {
  const counts = countsOf(state);
  const isSame = areEqual(
    counts as unknown as Record<string, number>,
    event.counts as unknown as Record<string, number>,
  );
  return {
    ...state,
    phase: LAST_PHASE[event.type],
    finishedAt: at,
    finalCounts: counts,
    error: event.type === "batch.failed.v1" ? event.error : null,
    stuck: null,
    heldUp: null,
    anomalies: state.anomalies + Number(!isSame),
  };
}

/** How many slots the slice has; 0 for one outside the batch. */
export function sliceSize(state: BatchState, index: number): number {
  if (!state.started) return 0;
  const { slice_size, target } = state.started.event.spec;
  return Math.max(0, Math.min(slice_size, target - index * slice_size));
}

function applySlice(state: BatchState, recorded: Recorded<SliceEvent>): BatchState {
  const { event, sequence } = recorded;
  const tail = state.slices.get(event.slice) ?? NEW_TAIL;
  if (sequence <= tail.sequence) return state;
  const size = sliceSize(state, event.slice);
  if (size === 0 || isFinal(state)) return applyStray(state, recorded, size);
  const before = tail.state;
  const [after, broken] = merge(before, event.after, size, state.phase === "stopping");
  const hasNewErrors = !areEqual(after.errors, before.errors);
  return {
    ...state,
    sequence: Math.max(state.sequence, sequence),
    slices: state.slices.insert(event.slice, { sequence, state: after, late: NONE }),
    totals: movedTotals(state.totals, before, after),
    errors: hasNewErrors ? movedErrors(state.errors, before, after) : state.errors,
    lastError: (hasNewErrors ? after.last_error : null) ?? state.lastError,
    lastProgressAt: PROGRESS.includes(event.type) ? recorded.storedAt : state.lastProgressAt,
    heldUp: stillHeldUp(state.heldUp, recorded),
    anomalies: state.anomalies + broken,
  };
}

/** Note an event of no slot of the batch, or one after its end: neither makes the dataset. */
function applyStray(state: BatchState, recorded: Recorded<SliceEvent>, size: number): BatchState {
  const { event, sequence } = recorded;
  const tail = state.slices.get(event.slice) ?? NEW_TAIL;
  const made = and(resolved(event.after), fullMask(size));
  const outcomes = without(made, resolved(tail.state));
  const fresh = countOf(without(outcomes, tail.late));
  const late = or(tail.late, outcomes);
  return {
    ...state,
    sequence: Math.max(state.sequence, sequence),
    slices: state.slices.insert(event.slice, { sequence, state: tail.state, late }),
    late: state.late + fresh,
    anomalies: state.anomalies + Number(fresh > 0 || size === 0),
  };
}
