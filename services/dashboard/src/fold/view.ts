/** The view of a folded batch, in the form that has a digest: the mirror of `domain/view.py`. */

import { countsOf, type BatchState } from "./batch";
import { textOfMicros } from "./times";

/** A batch's view: the contract's fields, every time in one form. */
export type View = Record<string, unknown>;

/** What users see of the batch; null for one that was never started. */
export function viewOf(state: BatchState): View | null {
  if (state.started === null) return null;
  const { event, storedAt } = state.started;
  const { spec } = event;
  const stop = state.stop?.event ?? null;
  const stopper = stop?.error === null ? stop : null;
  const time = (micros: number | null): string | null =>
    micros === null ? null : textOfMicros(micros);
  return {
    id: state.batchId,
    dataset_id: event.dataset_id,
    parent_id: event.parent_id,
    state: stateOf(state),
    model: spec.model,
    provider: spec.routes[0]?.provider ?? "",
    recipe: spec.recipe.recipe.name,
    recipe_hash: spec.recipe.content_hash,
    target: spec.target,
    counts: countsOf(state),
    concurrency: spec.concurrency,
    slice_size: spec.slice_size,
    seed: spec.seed,
    priority: state.changedPriority ?? spec.priority,
    pool: spec.pool,
    topic: spec.topic,
    difficulty: spec.difficulty,
    sample_type: spec.sample_type,
    instruction: spec.instruction,
    smart_mode: spec.smart_mode,
    started_by: event.actor.id,
    started_at: time(storedAt),
    last_progress_at: time(state.lastProgressAt),
    finished_at: time(state.finishedAt),
    stop_reason: stopper?.reason ?? null,
    stopped_by: stopper?.actor.id ?? null,
    error: state.error ?? stop?.error ?? null,
    last_error: state.lastError,
    errors: Object.fromEntries(Object.entries(state.errors).sort(([a], [b]) => (a < b ? -1 : 1))),
    stuck: state.stuck,
    held_up: state.heldUp,
    budgets: spec.budgets,
    budgets_warned: state.budgetsWarned,
    retry_id: state.retryId,
    child_id: state.childId,
    anomalies: state.anomalies,
    version: state.controlSequence,
    sequence: state.sequence,
  };
}

/** The state in the words users see; the first claimed slice makes a batch running. */
function stateOf({ phase, slices }: BatchState): string {
  if (phase === "active" || phase === "unknown") return slices.size > 0 ? "running" : "queued";
  return phase;
}
