"""What follows from a command or from the state itself: events, or a refusal in words."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from millstream.domain.batch import is_upgrade
from millstream.domain.batch_state import BatchState
from millstream.domain.phases import LEGAL, Phase
from millstream_schemas import commands, control, subjects
from millstream_schemas.envelope import Actor, BatchEvent, Counts
from millstream_schemas.errors import ErrorInfo


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who writes an event, when, and because of what; the impure part, made outside."""

    new_id: Callable[[], str]
    time: datetime
    actor: Actor
    source: str
    command_id: str | None = None
    causation_id: str | None = None

    def envelope(self, batch_id: str, subject: str) -> dict[str, Any]:
        """Return the envelope fields of one new event."""
        return {
            "id": self.new_id(),
            "source": self.source,
            "subject": subject,
            "time": self.time,
            "actor": self.actor,
            "command_id": self.command_id,
            "causation_id": self.causation_id,
            "batch_id": batch_id,
        }

    def control(self, batch_id: str) -> dict[str, Any]:
        """Return the envelope fields of a control event."""
        return self.envelope(batch_id, subjects.control(batch_id))


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command that the state forbids; ``allowed`` names the commands that it takes now."""

    code: str
    message: str
    allowed: tuple[str, ...] = ()
    child_id: str | None = None


Decision = BatchEvent | Refusal | None
"""An event to append, a refusal, or None: it is already so."""

_ALLOWED: dict[Phase, tuple[str, ...]] = {
    "active": ("stop", "pause", "priority"),
    "paused": ("stop", "resume", "priority"),
    "stopping": ("stop",),
}


def allowed(state: BatchState) -> tuple[str, ...]:
    """Return the commands that would change something, or make another batch, in ``state``."""
    if state.phase == "unknown":
        return ()
    found = _ALLOWED.get(state.phase, ())
    if state.is_final and state.child is None:
        counts = state.counts
        retried = counts.failed if state.retry else 0
        found += ("retry-failed",) if counts.failed > retried else ()
        found += ("continue",) if counts.generated + retried < state.spec.target else ()
    return (*found, "clone")


def decide(state: BatchState, command: commands.BatchCommand, stamp: Stamp) -> Decision:
    """Return what ``command`` leads to in ``state``; the caller appends it with the fence."""
    if state.phase == "unknown":
        return not_found(state)
    match command:
        case commands.StopBatch():
            return _stop(state, command, stamp)
        case commands.PauseBatch():
            if state.phase == "paused":
                return None
            if state.phase != "active":
                return refuse(state, "paused")
            return control.BatchPaused(**stamp.control(state.batch_id), reason=command.reason)
        case commands.ResumeBatch():
            if state.phase == "active":
                return None
            if state.phase != "paused":
                return refuse(state, "resumed")
            return control.BatchResumed(**stamp.control(state.batch_id), reason=command.reason)
        case commands.SetPriority():
            return _set_priority(state, command, stamp)


def _set_priority(state: BatchState, command: commands.SetPriority, stamp: Stamp) -> Decision:
    if state.phase not in LEGAL[control.BatchPriorityChanged]:
        return refuse(state, "given another priority")
    if state.priority == command.priority:
        return None
    return control.BatchPriorityChanged(
        **stamp.control(state.batch_id), priority=command.priority, reason=command.reason
    )


def _stop(state: BatchState, command: commands.StopBatch, stamp: Stamp) -> Decision:
    is_stronger = is_upgrade(state, command.mode)
    if state.phase in {"stopping", "stopped"} and not is_stronger:
        return None
    if state.phase not in LEGAL[control.BatchStopRequested] and not is_stronger:
        return refuse(state, "stopped")
    return control.BatchStopRequested(
        **stamp.control(state.batch_id),
        mode=command.mode,
        reason=command.reason,
        bound_at=_bound(command, stamp.time),
    )


def _bound(command: commands.StopBatch, time: datetime) -> datetime | None:
    return time + timedelta(seconds=command.grace_s) if command.mode == "drain" else None


COMMANDED = (
    control.BatchPaused,
    control.BatchResumed,
    control.BatchPriorityChanged,
    control.BatchStopRequested,
)
"""What a command makes; other events that carry its id followed from it, as a stop's end does."""


def is_made_of(command: commands.BatchCommand, event: BatchEvent) -> bool:
    """Tell whether ``event`` is what ``decide`` makes of ``command``, whoever asks for it."""
    match command, event:
        case commands.PauseBatch(), control.BatchPaused(reason=reason):
            return command.reason == reason
        case commands.ResumeBatch(), control.BatchResumed(reason=reason):
            return command.reason == reason
        case commands.SetPriority(), control.BatchPriorityChanged(reason=reason):
            return (command.priority, command.reason) == (event.priority, reason)
        case commands.StopBatch(), control.BatchStopRequested(reason=reason):
            asked = (command.mode, command.reason, _bound(command, event.time))
            return asked == (event.mode, reason, event.bound_at)
        case _:
            return False


def not_found(state: BatchState) -> Refusal:
    """Return the refusal of any command to a batch that nobody started."""
    return Refusal("not_found", f"batch {state.batch_id} does not exist")


def refuse(state: BatchState, done: str) -> Refusal:
    """Return the refusal of a command by the batch's state; ``done`` tells what it can't be."""
    return Refusal(
        "invalid_transition",
        f"batch {state.batch_id} is {state.state} and can't be {done}",
        allowed(state),
    )


def fail(state: BatchState, error: ErrorInfo, stamp: Stamp) -> Decision:
    """Return the request to end a batch that can't go on, None if it is ending already."""
    if state.phase not in LEGAL[control.BatchStopRequested]:
        return None
    return control.BatchStopRequested(
        **stamp.control(state.batch_id), reason=error.message[:500], error=error
    )


def complete(state: BatchState, stamp: Stamp) -> control.BatchCompleted | None:
    """Return the completion of a batch whose every slot has an outcome, else None."""
    if state.phase not in LEGAL[control.BatchCompleted] or state.counts.pending:
        return None
    return control.BatchCompleted(**stamp.control(state.batch_id), counts=state.counts)


def end_stop(
    state: BatchState, counts: Counts, stamp: Stamp
) -> control.BatchStopped | control.BatchFailed:
    """Return the last event of a stopping batch whose slices are all closed.

    Raises:
        LookupError: the batch is not stopping: no stop was requested, or it has ended.
    """
    if state.stop is None or state.phase != "stopping":
        raise LookupError(f"batch {state.batch_id} is {state.state}, not stopping")
    error = state.stop.event.error
    envelope = stamp.control(state.batch_id)
    if error is not None:
        return control.BatchFailed(**envelope, error=error, counts=counts)
    return control.BatchStopped(**envelope, counts=counts)
