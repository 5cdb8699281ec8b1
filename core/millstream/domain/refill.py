"""What an ended batch left open, and the child batch that makes it: one child per batch."""

from collections.abc import Iterator

from millstream.domain.batch_state import BatchState
from millstream.domain.decide import Refusal, Stamp, allowed, not_found, refuse
from millstream.domain.plan import Plan
from millstream_schemas import subjects
from millstream_schemas.commands import RefillKind
from millstream_schemas.control import CellQuota
from millstream_schemas.notes import ChildStarted
from millstream_schemas.slices import bits


def check_refill(state: BatchState, kind: RefillKind) -> Refusal | None:
    """Return why a child can't be started of ``state``, None when it can."""
    if state.phase == "unknown":
        return not_found(state)
    if not state.is_final:
        return refuse(state, "retried" if kind == "retry_failed" else "continued")
    if state.child is not None:
        child_id = state.child.child_id
        return Refusal(
            "already_continued",
            f"batch {state.batch_id} has its child already: {child_id} makes what it left; "
            "go on with that one",
            allowed(state),
            child_id,
        )
    if not slots_to_refill(state, kind):
        left = "no slot of it failed" if kind == "retry_failed" else "every slot has its sample"
        return Refusal(
            "nothing_to_retry",
            f"batch {state.batch_id} is {state.state} and {left}",
            allowed(state),
        )
    return None


def slots_to_refill(state: BatchState, kind: RefillKind) -> int:
    """Return how many samples a child would make."""
    counts = state.counts
    return counts.failed if kind == "retry_failed" else state.spec.target - counts.generated


def is_whole(state: BatchState) -> bool:
    """Tell whether the slices of an ended batch are all folded, as its last event counts them.

    Slice tails may come from a replica that lags; a child made from those would repeat samples.
    """
    counts, totals = state.counts, state.totals
    known = (totals.generated, totals.failed, totals.abandoned)
    return known == (counts.generated, counts.failed, counts.abandoned)


def quotas_left(state: BatchState, kind: RefillKind) -> tuple[CellQuota, ...]:
    """Return how many slots of each cell the batch left, exact to the slot.

    Takes about two seconds for half a million slots, and never more.
    """
    plan = Plan(state.spec)
    if kind == "retry_failed":
        return plan.quotas_of(_slots(state, "failed"))
    if 2 * state.counts.generated <= state.spec.target:
        return plan.quotas_without(_slots(state, "generated"))
    return plan.quotas_of(_slots_without_a_sample(state))


def child_started(state: BatchState, child_id: str, kind: RefillKind, stamp: Stamp) -> ChildStarted:
    """Return the note that makes ``child_id`` the one child of the batch."""
    return ChildStarted(
        **stamp.envelope(state.batch_id, subjects.note(state.batch_id)),
        child_id=child_id,
        kind=kind,
        slots=slots_to_refill(state, kind),
    )


def _slots(state: BatchState, outcome: str) -> Iterator[int]:
    size = state.spec.slice_size
    for index, tail in state.slices.items():
        mask = bits(getattr(tail.state, outcome))
        yield from (index * size + offset for offset in range(size) if mask >> offset & 1)


def _slots_without_a_sample(state: BatchState) -> Iterator[int]:
    spec = state.spec
    for index in range(spec.slices):
        tail = state.slices.get(index)
        made = bits(tail.state.generated) if tail is not None else 0
        slots = spec.slots(index)
        yield from (slot for slot in slots if not made >> (slot - slots.start) & 1)
