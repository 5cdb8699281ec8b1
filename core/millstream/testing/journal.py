"""The control events and the notes of one batch, written onto a tape."""

from datetime import timedelta
from typing import Any

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.decide import Stamp, complete, end_stop
from millstream.domain.recorded import Recorded
from millstream.testing.examples import example_spec
from millstream.testing.tape import Tape
from millstream_schemas import control, notes, subjects
from millstream_schemas.commands import RefillKind
from millstream_schemas.envelope import Actor, BatchEvent
from millstream_schemas.errors import ErrorInfo

CHILD = "batch_1767225600_0000c11d"


class Journal:
    """Writes what happens to a batch as a whole; each method appends one event.

    ``state`` is the fold so far.
    """

    def __init__(
        self,
        tape: Tape | None = None,
        *,
        batch_id: str = "batch_1767225600_00000001",
        spec: control.BatchSpec | None = None,
        user: str = "ada",
    ) -> None:
        self.tape = tape or Tape()
        self.batch_id = batch_id
        self.spec = spec or example_spec()
        self.user = Actor(kind="user", id=user)
        self.state = BatchState(batch_id)

    def record(self, event: BatchEvent) -> Recorded[BatchEvent]:
        """Append ``event`` as it is, legal or not."""
        recorded = self.tape.append(event)
        self.state = apply(self.state, recorded)
        return recorded

    def start(
        self, *, dataset_id: str | None = None, parent_id: str | None = None
    ) -> Recorded[BatchEvent]:
        """Append BatchStarted; with a parent the batch is its child."""
        return self.record(
            control.BatchStarted(
                **self._control(),
                spec=self.spec,
                dataset_id=dataset_id or self.batch_id,
                parent_id=parent_id,
            )
        )

    def pause(self) -> Recorded[BatchEvent]:
        """Append BatchPaused."""
        return self.record(control.BatchPaused(**self._control()))

    def resume(self) -> Recorded[BatchEvent]:
        """Append BatchResumed."""
        return self.record(control.BatchResumed(**self._control()))

    def set_priority(self, priority: control.Priority) -> Recorded[BatchEvent]:
        """Append BatchPriorityChanged."""
        return self.record(control.BatchPriorityChanged(**self._control(), priority=priority))

    def request_stop(
        self, reason: str = "", error: ErrorInfo | None = None
    ) -> Recorded[BatchEvent]:
        """Append BatchStopRequested; with ``error`` the batch will end as failed."""
        return self.record(
            control.BatchStopRequested(**self._control(), reason=reason, error=error)
        )

    def drain(self, seconds: float = 30.0, *, ahead_s: float = 0.0) -> Recorded[BatchEvent]:
        """Append BatchStopRequested that lets calls in flight finish for ``seconds``.

        ``ahead_s``: how far the clock of who writes it is ahead of the log's.
        """
        written_at = self.tape.now + timedelta(seconds=ahead_s)
        envelope = {**self._control(), "time": written_at}
        bound_at = written_at + timedelta(seconds=seconds)
        return self.record(control.BatchStopRequested(**envelope, mode="drain", bound_at=bound_at))

    def end_stop(self) -> Recorded[BatchEvent]:
        """Append BatchStopped (or BatchFailed) with the counts of the fold."""
        stamp = self._stamp(Actor(kind="system", id="fence"))
        return self.record(end_stop(self.state, self.state.counts, stamp))

    def complete(self) -> Recorded[BatchEvent]:
        """Append BatchCompleted.

        Raises:
            ValueError: a slot has no outcome yet, so the event would be illegal.
        """
        event = complete(self.state, self._stamp(Actor(kind="system", id="dispatcher")))
        if event is None:
            raise ValueError(f"batch {self.batch_id} is not complete: {self.state.counts}")
        return self.record(event)

    def detect_stuck(self, finding: notes.StuckFinding) -> Recorded[BatchEvent]:
        """Append StuckDetected."""
        return self.record(notes.StuckDetected(**self._note(), finding=finding))

    def clear_stuck(self, rule: notes.StuckRule) -> Recorded[BatchEvent]:
        """Append StuckCleared."""
        return self.record(notes.StuckCleared(**self._note(), rule=rule))

    def throttle(self, seconds: float) -> Recorded[BatchEvent]:
        """Append RouteThrottled until ``seconds`` from now."""
        until = self.tape.now + timedelta(seconds=seconds)
        return self.record(notes.RouteThrottled(**self._note(), model=self.spec.model, until=until))

    def block(self, seconds: float, failures: int = 5) -> Recorded[BatchEvent]:
        """Append RouteBlocked until ``seconds`` from now."""
        until = self.tape.now + timedelta(seconds=seconds)
        return self.record(
            notes.RouteBlocked(
                **self._note(), model=self.spec.model, until=until, failures=failures
            )
        )

    def recover(self) -> Recorded[BatchEvent]:
        """Append RouteRecovered."""
        return self.record(notes.RouteRecovered(**self._note(), model=self.spec.model))

    def warn_budget(self, used: float = 0.8) -> Recorded[BatchEvent]:
        """Append BudgetWarned."""
        return self.record(notes.BudgetWarned(**self._note(), budget="cost", used=used))

    def note_child(
        self, child_id: str = CHILD, kind: RefillKind = "continue", slots: int = 1
    ) -> Recorded[BatchEvent]:
        """Append ChildStarted."""
        return self.record(
            notes.ChildStarted(**self._note(), child_id=child_id, kind=kind, slots=slots)
        )

    def _stamp(self, actor: Actor) -> Stamp:
        number = len(self.tape.entries) + 1
        return Stamp(
            new_id=lambda: f"{number:032x}",
            time=self.tape.now,
            actor=actor,
            source="script",
            causation_id="script",
        )

    def _control(self) -> dict[str, Any]:
        return self._stamp(self.user).control(self.batch_id)

    def _note(self) -> dict[str, Any]:
        stamp = self._stamp(Actor(kind="system", id="watchdog"))
        return stamp.envelope(self.batch_id, subjects.note(self.batch_id))
