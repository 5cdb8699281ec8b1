"""The fold of a batch: its state after each of its events.

``apply`` is total: any history folds and none raises; events that break a rule change nothing
but ``anomalies``. The legal transitions are those of docs/architecture.md, "A batch's life".
"""

# rpds classes take no [] at run time, so annotations must stay unevaluated.
from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from rpds import HashTrieMap

from millstream.domain import slice as slices
from millstream.domain.annotations import annotated, still_held_up
from millstream.domain.batch_state import NEW_SLICE, BatchState, SliceTail
from millstream.domain.phases import LAST_PHASE, LEGAL, LastEvent
from millstream.domain.recorded import Recorded
from millstream.domain.redaction import silenced
from millstream.domain.slice_merge import merge
from millstream_schemas import control
from millstream_schemas import slices as slice_events
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.errors import ErrorCategory
from millstream_schemas.slices import SliceEvent, SliceState

_PROGRESS: frozenset[type[BatchEvent]] = frozenset(
    {
        slice_events.SampleGenerated,
        slice_events.SampleAttemptFailed,
        slice_events.SampleRejected,
        slice_events.SampleFailed,
    }
)
"""Events that show a live worker at work; a claim or a stop does not."""


def apply(
    state: BatchState, recorded: Recorded[BatchEvent], *, trusted: bool = False
) -> BatchState:
    """Return the state after one stored event.

    Redelivery changes nothing: each subject's own sequence only grows. ``trusted`` takes an
    event as the state that a sound log leads to; a reader that starts from the tails alone
    uses it, since it has not seen what came before them.
    """
    event = recorded.event
    if isinstance(event, SliceEvent):
        return _apply_slice(state, recorded, event, trusted=trusted)
    if type(event) in LEGAL:
        return _apply_control(state, recorded, event, trusted=trusted)
    return silenced(state, recorded) or _apply_note(state, recorded, event)


def _apply_control(
    state: BatchState, recorded: Recorded[BatchEvent], event: BatchEvent, *, trusted: bool
) -> BatchState:
    if recorded.sequence <= state.control_sequence:
        return state
    is_legal = _is_legal(state, event, trusted=trusted)
    state = replace(
        state,
        control_sequence=recorded.sequence,
        sequence=max(state.sequence, recorded.sequence),
        anomalies=state.anomalies + (not is_legal),
    )
    if not is_legal:
        return state
    match event:
        case control.BatchStarted():
            started = Recorded(recorded.sequence, recorded.stored_at, event)
            return replace(state, phase="active", started=started)
        case control.BatchPaused():
            return replace(state, phase="paused")
        case control.BatchResumed():
            return replace(state, phase="active")
        case control.BatchPriorityChanged():
            return replace(state, changed_priority=event.priority)
        case control.BatchStopRequested():
            stop = Recorded(recorded.sequence, recorded.stored_at, event)
            return replace(state, phase="stopping", stop=stop)
        case control.BatchStopped() | control.BatchCompleted() | control.BatchFailed():
            return _end(state, recorded.stored_at, event, trusted=trusted)
        case _:
            raise AssertionError(f"{type(event).__name__} stands in LEGAL but has no case")


def _is_legal(state: BatchState, event: BatchEvent, *, trusted: bool) -> bool:
    """Tell whether ``event`` may move the batch on; one with open slots can't complete."""
    if state.phase not in LEGAL[type(event)]:
        return isinstance(event, control.BatchStopRequested) and is_upgrade(state, event.mode)
    return trusted or not isinstance(event, control.BatchCompleted) or not state.counts.pending


def is_upgrade(state: BatchState, mode: control.StopMode) -> bool:
    """Tell whether a stop of ``mode`` is stronger than the one under way."""
    if state.phase != "stopping" or state.stop is None:
        return False
    return mode == "cancel" and state.stop.event.mode == "drain"


def _end(state: BatchState, at: datetime, event: LastEvent, *, trusted: bool) -> BatchState:
    # A reader of control events alone has folded no slice and must believe the event.
    counts = event.counts if trusted else state.counts
    return replace(
        state,
        phase=LAST_PHASE[type(event)],
        finished_at=at,
        final_counts=counts,
        error=event.error if isinstance(event, control.BatchFailed) else None,
        stuck=None,
        held_up=None,
        anomalies=state.anomalies + (event.counts != counts),
    )


def _apply_slice(
    state: BatchState, recorded: Recorded[BatchEvent], event: SliceEvent, *, trusted: bool
) -> BatchState:
    tail = state.slices.get(event.slice, NEW_SLICE)
    if recorded.sequence <= tail.sequence:
        return state
    size = state.slice_size(event.slice)
    if not size or (state.is_final and not trusted):
        return _apply_stray(state, recorded, event, size)
    before = tail.state
    after, broken = merge(
        before, event.after, size, may_abandon=trusted or state.phase == "stopping"
    )
    has_new_errors = after.errors != before.errors
    return changed(
        state,
        sequence=max(state.sequence, recorded.sequence),
        slices=state.slices.insert(event.slice, SliceTail(recorded.sequence, after)),
        totals=state.totals.moved(before, after),
        errors=moved_errors(state.errors, before, after) if has_new_errors else state.errors,
        last_error=(after.last_error if has_new_errors else None) or state.last_error,
        last_progress_at=recorded.stored_at if type(event) in _PROGRESS else state.last_progress_at,
        held_up=still_held_up(state.held_up, recorded),
        anomalies=state.anomalies + broken,
    )


def changed(state: BatchState, **changes: object) -> BatchState:
    """Do as ``replace`` does without calling the constructor: a third off the time of a fold."""
    after = object.__new__(BatchState)
    vars(after).update(vars(state), **changes)
    return after


def _apply_stray(
    state: BatchState, recorded: Recorded[BatchEvent], event: SliceEvent, size: int
) -> BatchState:
    """Note an event of no slot of the batch, or one after its end: neither makes the dataset.

    Its sequence is kept, so that a redelivery is known as such. A claim after the end is no
    anomaly: its node reads the end before its first call and goes away.
    """
    tail = state.slices.get(event.slice, NEW_SLICE)
    outcomes = slices.resolved(event.after) & slices.full_mask(size) & ~slices.resolved(tail.state)
    fresh = (outcomes & ~tail.late).bit_count()
    late_tail = SliceTail(recorded.sequence, tail.state, tail.late | outcomes)
    return replace(
        state,
        sequence=max(state.sequence, recorded.sequence),
        slices=state.slices.insert(event.slice, late_tail),
        late=state.late + fresh,
        anomalies=state.anomalies + (fresh > 0 or not size),
    )


def moved_errors(
    errors: HashTrieMap[ErrorCategory, int], before: SliceState, after: SliceState
) -> HashTrieMap[ErrorCategory, int]:
    """Return a batch's error counts after one slice went from ``before`` to ``after``."""
    for category, count in after.errors.items():
        grown = count - before.errors.get(category, 0)
        if grown:
            errors = errors.insert(category, errors.get(category, 0) + grown)
    return errors


def _apply_note(state: BatchState, recorded: Recorded[BatchEvent], event: BatchEvent) -> BatchState:
    if recorded.sequence <= state.note_sequence:
        return state
    state = replace(
        state,
        note_sequence=recorded.sequence,
        sequence=max(state.sequence, recorded.sequence),
    )
    return replace(state, **annotated(state, recorded.stored_at, event))


def fold(batch_id: str, history: list[Recorded[BatchEvent]]) -> BatchState:
    """Return the state after a whole history of one batch."""
    state = BatchState(batch_id)
    for recorded in history:
        state = apply(state, recorded)
    return state
