"""What an ended batch left open, and the children that make it: each slot by one child at most.

A ``retry_failed`` takes the slots that failed; a ``continue`` takes all that are left then.
"""

from collections.abc import Iterator

from millstream.domain.batch_state import BatchState
from millstream.domain.decide import Refusal, Stamp, allowed, not_found, refuse
from millstream.domain.plan import Plan
from millstream_schemas import subjects
from millstream_schemas.commands import RefillKind
from millstream_schemas.control import CellQuota
from millstream_schemas.notes import ChildStarted
from millstream_schemas.slices import SliceState, bits


def check_refill(state: BatchState, kind: RefillKind) -> Refusal | None:
    """Return why a child can't be started of ``state``, None when it can."""
    if state.phase == "unknown":
        return not_found(state)
    if not state.is_final:
        return refuse(state, "retried" if kind == "retry_failed" else "continued")
    note = child_for(state, kind)
    if note is not None:
        made = "its failed samples" if note.kind == "retry_failed" else "what it left"
        return Refusal(
            "already_continued",
            f"batch {state.batch_id} has its child already: {note.child_id} makes {made}; "
            "go on with that one",
            allowed(state),
            note.child_id,
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
    """Return how many samples a child would make: those that no child has."""
    if child_for(state, kind) is not None:
        return 0
    counts = state.counts
    return counts.failed if kind == "retry_failed" else state.spec.target - _taken(state)


def child_for(state: BatchState, kind: RefillKind) -> ChildStarted | None:
    """Return the child that has all that a command of this kind asks for, None when none has."""
    if kind == "retry_failed":
        return state.retry or state.child
    is_all_taken = state.retry is not None and _taken(state) == state.spec.target
    return state.child or (state.retry if is_all_taken else None)


def _taken(state: BatchState) -> int:
    """Return how many slots have their sample or belong to a retry of the failed ones."""
    counts = state.counts
    return counts.generated + (counts.failed if state.retry else 0)


def is_whole(state: BatchState) -> bool:
    """Tell whether the slices of an ended batch are all folded, as its last event counts them.

    Slice tails may come from a replica that lags; a child made from those would repeat samples.
    """
    counts, totals = state.counts, state.totals
    known = (totals.generated, totals.failed, totals.abandoned)
    return known == (counts.generated, counts.failed, counts.abandoned)


def quotas_left(state: BatchState, kind: RefillKind) -> tuple[CellQuota, ...]:
    """Return how many slots of each cell the batch, and a retry of it, left, exact to the slot.

    Takes about two seconds for half a million slots, and never more.
    """
    plan = Plan(state.spec)
    if kind == "retry_failed":
        return plan.quotas_of(_slots(state, "failed"))
    taken = ("generated", "failed") if state.retry else ("generated",)
    if 2 * _taken(state) <= state.spec.target:
        return plan.quotas_without(_slots(state, *taken))
    return plan.quotas_of(_slots_without(state, *taken))


def child_started(state: BatchState, child_id: str, kind: RefillKind, stamp: Stamp) -> ChildStarted:
    """Return the note that gives ``child_id`` what it takes of the batch."""
    return ChildStarted(
        **stamp.envelope(state.batch_id, subjects.note(state.batch_id)),
        child_id=child_id,
        kind=kind,
        slots=slots_to_refill(state, kind),
    )


def _slots(state: BatchState, *outcomes: str) -> Iterator[int]:
    size = state.spec.slice_size
    for index, tail in state.slices.items():
        mask = _mask(tail.state, outcomes)
        yield from (index * size + offset for offset in range(size) if mask >> offset & 1)


def _mask(state: SliceState, outcomes: tuple[str, ...]) -> int:
    # A slot has one outcome, so the masks share no bit.
    return sum(bits(getattr(state, outcome)) for outcome in outcomes)


def _slots_without(state: BatchState, *outcomes: str) -> Iterator[int]:
    spec = state.spec
    for index in range(spec.slices):
        tail = state.slices.get(index)
        made = _mask(tail.state, outcomes) if tail is not None else 0
        slots = spec.slots(index)
        yield from (slot for slot in slots if not made >> (slot - slots.start) & 1)
