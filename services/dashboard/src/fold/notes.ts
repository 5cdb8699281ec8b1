/** What notes and redactions change of a batch: flags and texts, never its phase. */

import type { BatchState, Recorded } from "./batch";
import type { NoteEvent, RouteNote, SampleRedacted, SliceEvent } from "./events";
import { withoutMessage } from "./slices";
import { textOfMicros } from "./times";

export interface HeldUp {
  kind: "throttled" | "blocked";
  model: string;
  since: string;
  until: string;
  message: string;
}

/** The parts of `state` that a note changes. */
export function annotated(state: BatchState, recorded: Recorded): Partial<BatchState> {
  const event = recorded.event as NoteEvent;
  const isLive = !["unknown", "stopped", "completed", "failed"].includes(state.phase);
  switch (event.type) {
    case "batch.stuck_detected.v1":
      return isLive ? { stuck: event.finding } : {};
    case "batch.stuck_cleared.v1":
      return { stuck: null };
    case "route.throttled.v1":
    case "route.blocked.v1":
      return isLive ? { heldUp: heldUp(recorded.storedAt, event) } : {};
    case "route.recovered.v1":
      return { heldUp: null };
    case "route.not_direct.v1":
      return {};
    case "batch.budget_warned.v1":
      return { budgetsWarned: [...new Set([...state.budgetsWarned, event.budget])] };
    case "batch.child_started.v1":
      if (state.childId !== null) return {};
      if (event.kind === "continue") return { childId: event.child_id };
      return state.retryId === null ? { retryId: event.child_id } : {};
  }
}

function heldUp(since: number, event: RouteNote): HeldUp {
  return {
    kind: event.type === "route.throttled.v1" ? "throttled" : "blocked",
    model: event.model,
    since: textOfMicros(since),
    until: event.until,
    message: event.message,
  };
}

/** What holds the batch up after a slice event: a sample after the wait proves that it goes on. */
export function stillHeldUp(wait: HeldUp | null, recorded: Recorded<SliceEvent>): HeldUp | null {
  if (wait === null || recorded.event.type !== "sample.generated.v1") return wait;
  return textOfMicros(recorded.storedAt) > wait.until ? null : wait;
}

/** The batch after a redaction: the messages of its slots' errors are gone. */
export function silenced(state: BatchState, sequence: number, event: SampleRedacted): BatchState {
  let { slices } = state;
  if (event.silences.length > 0) {
    for (const [index, tail] of state.slices.entries()) {
      const last_error = withoutMessage(tail.state.last_error, event.silences);
      if (last_error !== tail.state.last_error)
        slices = slices.insert(index, { ...tail, state: { ...tail.state, last_error } });
    }
  }
  return {
    ...state,
    sequence: Math.max(state.sequence, sequence),
    lastError: withoutMessage(state.lastError, event.silences),
    slices,
  };
}
