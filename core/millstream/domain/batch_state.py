"""The state of a batch, as its fold leaves it; the fold itself is in `batch`."""

# rpds classes take no [] at run time, so annotations must stay unevaluated.
from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from rpds import HashTrieMap

from millstream.domain.phases import FINAL_PHASES, Phase
from millstream.domain.recorded import Recorded
from millstream.domain.totals import Totals
from millstream_schemas import control, notes
from millstream_schemas.envelope import Counts
from millstream_schemas.errors import ErrorCategory, ErrorInfo
from millstream_schemas.slices import SliceState
from millstream_schemas.views import State


class SliceTail(NamedTuple):
    """What is known of one slice: its state and the sequence of its last event.

    ``late`` is the mask of slots whose outcome came after the batch had ended.
    """

    sequence: int
    state: SliceState
    late: int = 0


NEW_SLICE = SliceTail(0, SliceState())


@dataclass(frozen=True)
class BatchState:
    """A batch as of its last folded event; a batch nobody started has phase ``unknown``.

    ``late`` counts outcomes that came after the final event: kept, paid, not in the dataset.
    """

    batch_id: str
    phase: Phase = "unknown"
    started: Recorded[control.BatchStarted] | None = None
    stop: Recorded[control.BatchStopRequested] | None = None
    finished_at: datetime | None = None
    final_counts: Counts | None = None
    error: ErrorInfo | None = None
    control_sequence: int = 0
    note_sequence: int = 0
    sequence: int = 0
    slices: HashTrieMap[int, SliceTail] = field(default_factory=HashTrieMap)
    totals: Totals = field(default_factory=Totals)
    errors: HashTrieMap[ErrorCategory, int] = field(default_factory=HashTrieMap)
    last_error: ErrorInfo | None = None
    last_progress_at: datetime | None = None
    stuck: notes.StuckFinding | None = None
    held_up: notes.HeldUp | None = None
    budgets_warned: tuple[str, ...] = ()
    retry: notes.ChildStarted | None = None
    """The child that makes the failed samples alone."""
    child: notes.ChildStarted | None = None
    """The child that makes everything else that the batch left."""
    changed_priority: control.Priority | None = None
    late: int = 0
    anomalies: int = 0

    @property
    def is_final(self) -> bool:
        """Whether the batch ended: nothing leaves such a state."""
        return self.phase in FINAL_PHASES

    @property
    def is_live(self) -> bool:
        """Whether the batch was started and has not ended."""
        return self.phase != "unknown" and not self.is_final

    @property
    def spec(self) -> control.BatchSpec:
        """What was asked for.

        Raises:
            LookupError: the batch was never started.
        """
        if self.started is None:
            raise LookupError(f"batch {self.batch_id} was never started")
        return self.started.event.spec

    @property
    def dataset_id(self) -> str:
        """The dataset to which the samples belong; a child's is its parent's."""
        return self.started.event.dataset_id if self.started else self.batch_id

    @property
    def priority(self) -> control.Priority:
        """The line in which slices wait that are queued now."""
        return self.changed_priority or self.spec.priority

    @property
    def drains_until(self) -> datetime | None:
        """When a drain's time is up, by the log's clock: who asked for it may have another one."""
        stop = self.stop
        if stop is None or stop.event.bound_at is None:
            return None
        return stop.stored_at + (stop.event.bound_at - stop.event.time)

    @property
    def state(self) -> State:
        """The state in the words users see; the first claimed slice makes a batch running."""
        if self.phase in {"active", "unknown"}:
            return "running" if len(self.slices) else "queued"
        return self.phase  # type: ignore[return-value]  # the two others were handled above

    @property
    def counts(self) -> Counts:
        """What became of the slots, and the cost; for an ended batch as its last event says."""
        if self.final_counts is not None:
            return self.final_counts
        target = self.started.event.spec.target if self.started else 0
        done = self.totals.generated + self.totals.failed + self.totals.abandoned
        return Counts(**self.totals._asdict(), pending=max(0, target - done))

    def slice_size(self, index: int) -> int:
        """Return how many slots slice ``index`` has (0 for one outside the batch)."""
        if self.started is None:
            return 0
        spec = self.started.event.spec
        return max(0, min(spec.slice_size, spec.target - index * spec.slice_size))
