"""The view of one batch: the same words for the relay, the projector and the API."""

from millstream.domain.batch_state import BatchState
from millstream_schemas.views import BatchView


def batch_view(state: BatchState) -> BatchView:
    """Return what users see of a batch.

    Raises:
        LookupError: the batch was never started.
    """
    if state.started is None:
        raise LookupError(f"batch {state.batch_id} was never started")
    started = state.started.event
    spec = started.spec
    route = spec.routes[0]
    stop = state.stop.event if state.stop else None
    return BatchView(
        id=state.batch_id,
        dataset_id=started.dataset_id,
        parent_id=started.parent_id,
        state=state.state,
        model=spec.model,
        provider=route.provider,
        recipe=spec.recipe.recipe.name,
        recipe_hash=spec.recipe.content_hash,
        target=spec.target,
        counts=state.counts,
        concurrency=spec.concurrency,
        slice_size=spec.slice_size,
        seed=spec.seed,
        priority=state.priority,
        pool=spec.pool,
        topic=spec.topic,
        difficulty=spec.difficulty,
        sample_type=spec.sample_type,
        instruction=spec.instruction,
        smart_mode=spec.smart_mode,
        started_by=started.actor.id,
        started_at=state.started.stored_at,
        last_progress_at=state.last_progress_at,
        finished_at=state.finished_at,
        stop_reason=stop.reason if stop and stop.error is None else None,
        stopped_by=stop.actor.id if stop and stop.error is None else None,
        error=state.error or (stop.error if stop else None),
        last_error=state.last_error,
        errors=dict(sorted(state.errors.items())),  # a hash map has another order in each process
        stuck=state.stuck,
        held_up=state.held_up,
        budgets=spec.budgets,
        budgets_warned=state.budgets_warned,
        retry_id=state.retry.child_id if state.retry else None,
        child_id=state.child.child_id if state.child else None,
        anomalies=state.anomalies,
        version=state.control_sequence,
        sequence=state.sequence,
    )
