"""The part of a batch's fold that its slices don't hold, as it is kept beside them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from rpds import HashTrieMap

from millstream.domain.batch_state import BatchState, SliceTail
from millstream.domain.phases import Phase
from millstream.domain.recorded import Recorded
from millstream.domain.totals import Totals
from millstream_schemas.control import BatchStarted, BatchStopRequested, Priority
from millstream_schemas.envelope import BatchEvent, Contract, Counts
from millstream_schemas.errors import ErrorCategory, ErrorInfo
from millstream_schemas.notes import ChildStarted, HeldUp, StuckFinding
from millstream_schemas.slices import SliceState

Lengths = Mapping[str, tuple[int, int]]
"""Text field -> how many samples of a batch have it, and their characters in all."""


class FirstSample(NamedTuple):
    """The first sample of a batch: where and when it was stored, and what made it."""

    sequence: int
    stored_at: datetime
    model: str
    provider: str


@dataclass(frozen=True, slots=True)
class Known:
    """All that the projector keeps of a batch: its fold, when it last moved, its lengths."""

    state: BatchState
    moved_at: datetime | None = None
    lengths: Lengths = field(default_factory=dict)
    first_sample: FirstSample | None = None


def lengthen(lengths: dict[str, list[int]], contents: Iterable[Mapping[str, Any]]) -> None:
    """Add the texts of more samples to ``lengths``, whose pairs are lists meanwhile."""
    alike: dict[tuple[str, ...], list[Iterable[Any]]] = {}
    for content in contents:  # those with the same fields go together: it is quicker
        alike.setdefault(tuple(content), []).append(content.values())
    for names, rows in alike.items():
        for name, values in zip(names, zip(*rows, strict=True), strict=True):
            texts = [value for value in values if isinstance(value, str)]
            if texts:
                pair = lengths.setdefault(name, [0, 0])
                pair[0] += len(texts)
                pair[1] += len("".join(texts))


class Head(Contract):
    """The scalars of a fold; the start and the stop stand for their events in ``events``."""

    phase: Phase = "unknown"
    started_sequence: int | None = None
    stop_sequence: int | None = None
    finished_at: datetime | None = None
    final_counts: Counts | None = None
    error: ErrorInfo | None = None
    control_sequence: int = 0
    note_sequence: int = 0
    sequence: int = 0
    last_error: ErrorInfo | None = None
    last_progress_at: datetime | None = None
    stuck: StuckFinding | None = None
    held_up: HeldUp | None = None
    budgets_warned: tuple[str, ...] = ()
    retry: ChildStarted | None = None
    child: ChildStarted | None = None
    changed_priority: Priority | None = None
    late: int = 0
    anomalies: int = 0

    @classmethod
    def of(cls, state: BatchState) -> "Head":
        """Return the head of ``state``."""
        return cls.model_construct(
            phase=state.phase,
            started_sequence=state.started.sequence if state.started else None,
            stop_sequence=state.stop.sequence if state.stop else None,
            finished_at=state.finished_at,
            final_counts=state.final_counts,
            error=state.error,
            control_sequence=state.control_sequence,
            note_sequence=state.note_sequence,
            sequence=state.sequence,
            last_error=state.last_error,
            last_progress_at=state.last_progress_at,
            stuck=state.stuck,
            held_up=state.held_up,
            budgets_warned=state.budgets_warned,
            retry=state.retry,
            child=state.child,
            changed_priority=state.changed_priority,
            late=state.late,
            anomalies=state.anomalies,
        )

    @property
    def event_sequences(self) -> list[int]:
        """The sequences of the events that the fold keeps."""
        return [seq for seq in (self.started_sequence, self.stop_sequence) if seq is not None]


class Sums(NamedTuple):
    """The slices of a batch and what they add up to."""

    slices: "HashTrieMap[int, SliceTail]"
    totals: Totals
    errors: "HashTrieMap[ErrorCategory, int]"


def summed(tails: Iterable[tuple[int, SliceTail]]) -> Sums:
    """Return the sums of slices, which hold them all."""
    totals = Totals()
    errors: dict[ErrorCategory, int] = {}
    states: dict[int, SliceTail] = {}
    for index, tail in tails:
        states[index] = tail
        totals = totals.moved(SliceState(), tail.state)
        for category, count in tail.state.errors.items():
            if count:
                errors[category] = errors.get(category, 0) + count
    return Sums(HashTrieMap(states), totals, HashTrieMap(errors))


def restore(
    batch_id: str,
    head: Head,
    kept: Mapping[int, Recorded[BatchEvent]],
    tails: Iterable[tuple[int, SliceTail]],
) -> BatchState:
    """Return the fold whose head, kept events (by sequence) and slices these are."""
    sums = summed(tails)
    state = BatchState(
        batch_id,
        phase=head.phase,
        finished_at=head.finished_at,
        final_counts=head.final_counts,
        error=head.error,
        control_sequence=head.control_sequence,
        note_sequence=head.note_sequence,
        sequence=head.sequence,
        **sums._asdict(),
        last_error=head.last_error,
        last_progress_at=head.last_progress_at,
        stuck=head.stuck,
        held_up=head.held_up,
        budgets_warned=head.budgets_warned,
        retry=head.retry,
        child=head.child,
        changed_priority=head.changed_priority,
        late=head.late,
        anomalies=head.anomalies,
    )
    for sequence in head.event_sequences:
        recorded = kept[sequence]
        match recorded.event:
            case BatchStarted() as event:
                started = Recorded(recorded.sequence, recorded.stored_at, event)
                state = replace(state, started=started)
            case BatchStopRequested() as stop_event:
                stop = Recorded(recorded.sequence, recorded.stored_at, stop_event)
                state = replace(state, stop=stop)
            case _:
                raise LookupError(f"sequence {sequence} of {batch_id} is not what its fold keeps")
    return state
