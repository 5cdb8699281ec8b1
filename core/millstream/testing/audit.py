"""What the log itself says of a batch: the judge of every fault test."""

from collections import Counter
from dataclasses import dataclass, field

from millstream.domain import slice as slices
from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.recorded import Recorded
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import decode
from millstream.runtime.settings import load_settings
from millstream_schemas import control, subjects
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.slices import (
    AttemptEvent,
    SampleFailed,
    SampleGenerated,
    SliceClaimed,
    SliceEvent,
    SliceReleased,
)

FINAL_EVENTS = (control.BatchStopped, control.BatchCompleted, control.BatchFailed)


@dataclass(frozen=True, slots=True)
class SliceMove:
    """One event of a slice: when it was stored, who holds the slice after it, what is open."""

    at: float
    index: int
    node: str
    is_open: bool


@dataclass(slots=True)
class BatchAudit:
    """Every event of one batch, read from the log in order.

    ``outcomes`` counts SampleGenerated and SampleFailed per slot; ``late`` are the outcomes
    stored after the batch's last control event. ``attempts`` counts the calls that the log knows
    of. Times are the stream's, in seconds of the wall clock.
    """

    state: BatchState
    types: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[int] = field(default_factory=Counter)
    generated: set[int] = field(default_factory=set)
    finals: int = 0
    late: int = 0
    attempts: int = 0
    stop_requested_at: float | None = None
    ended_at: float | None = None
    moves: list[SliceMove] = field(default_factory=list)

    def take(self, recorded: Recorded[BatchEvent]) -> None:
        """Fold one event, and note it with its time."""
        event, at = recorded.event, recorded.stored_at.timestamp()
        self.state = apply(self.state, recorded)
        self.note(event)
        if isinstance(event, control.BatchStopRequested) and self.stop_requested_at is None:
            self.stop_requested_at = at
        if isinstance(event, FINAL_EVENTS):
            self.ended_at = at
        if isinstance(event, SliceEvent):
            is_open = not slices.is_done(event.after, self.state.slice_size(event.slice))
            self.moves.append(SliceMove(at, event.slice, event.after.node, is_open))

    def note(self, event: BatchEvent) -> None:
        """Count one event."""
        # A SampleFailed tells the end of a slot whose last call has an event of its own.
        self.attempts += isinstance(event, AttemptEvent) and not isinstance(event, SampleFailed)
        self.types[str(getattr(event, "type", ""))] += 1
        if isinstance(event, SampleGenerated | SampleFailed):
            self.outcomes[event.slot] += 1
            if isinstance(event, SampleGenerated):
                self.generated.add(event.slot)
        # One that wakes late may take a slice that nobody had begun, and lets go of it at once.
        if self.finals and isinstance(event, SliceEvent):
            self.late += not isinstance(event, SliceClaimed | SliceReleased)
        self.finals += isinstance(event, FINAL_EVENTS)

    def faults(self) -> list[str]:
        """Return what is wrong with an ended batch, in words; empty when all is well."""
        found = []
        doubled = [slot for slot, count in self.outcomes.items() if count > 1]
        if doubled:
            found.append(f"slots with more than one outcome: {doubled[:10]}")
        if self.finals != 1:
            found.append(f"{self.finals} final events")
        if self.late:
            found.append(f"{self.late} slice events after the final one")
        if self.state.anomalies:
            found.append(f"{self.state.anomalies} anomalies in the fold")
        if len(self.generated) != self.state.counts.generated:
            found.append(
                f"{len(self.generated)} samples in the log, {self.state.counts.generated} counted"
            )
        return found

    def lost(self) -> list[int]:
        """Return the slots of a completed batch that have no outcome."""
        return [slot for slot in range(self.state.spec.target) if slot not in self.outcomes]

    def taken_over_s(self, node: str, at: float) -> dict[int, float]:
        """Return how long after ``at`` another node first wrote to each open slice of ``node``."""
        tails = {move.index: move for move in self.moves if move.at <= at}
        held = {tail.index for tail in tails.values() if tail.node == node and tail.is_open}
        found: dict[int, float] = {}
        for move in self.moves:
            if move.at > at and move.index in held and move.node not in {node, ""}:
                found.setdefault(move.index, move.at - at)
        return found


async def audit_batch(nats_url: str, batch_id: str) -> BatchAudit:
    """Read the whole log of a batch and fold it."""
    async with connected(load_settings(nats_url=nats_url), "audit") as connection:
        audit = BatchAudit(BatchState(batch_id))
        async for page in EventLog(connection).history(subjects.all_of_batch(batch_id)):
            for stored in page:
                recorded = decode(stored)
                if recorded is not None:
                    audit.take(recorded)
        return audit
