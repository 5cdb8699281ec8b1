"""What notes change of a batch: flags with a cause, never its phase or its version."""

from datetime import datetime
from typing import Any

from millstream.domain.batch_state import BatchState
from millstream.domain.recorded import Recorded
from millstream_schemas import notes
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.notes import HeldUp
from millstream_schemas.slices import SampleGenerated


def annotated(state: BatchState, stored_at: datetime, event: BatchEvent) -> dict[str, Any]:
    """Return the fields of ``state`` that a note stored at ``stored_at`` changes."""
    match event:
        case notes.StuckDetected() if state.is_live:
            return {"stuck": event.finding}
        case notes.StuckCleared():
            return {"stuck": None}
        case notes.RouteThrottled() | notes.RouteBlocked() if state.is_live:
            return {"held_up": _held_up(stored_at, event)}
        case notes.RouteRecovered():
            return {"held_up": None}
        case notes.BudgetWarned():
            return {"budgets_warned": tuple(dict.fromkeys((*state.budgets_warned, event.budget)))}
        case notes.ChildStarted() if state.child is None:
            if event.kind == "continue":
                return {"child": event}
            return {"retry": event} if state.retry is None else {}
        case _:
            return {}


def still_held_up(waits: HeldUp | None, recorded: Recorded[BatchEvent]) -> HeldUp | None:
    """Return what holds the batch up after a slice event: a sample proves that it goes on.

    One from before the end of the wait proves nothing: its call was in flight already.
    """
    if waits is None or type(recorded.event) is not SampleGenerated:
        return waits
    return None if recorded.stored_at > waits.until else waits


def _held_up(since: datetime, event: notes.RouteThrottled | notes.RouteBlocked) -> HeldUp:
    return HeldUp(
        kind="throttled" if isinstance(event, notes.RouteThrottled) else "blocked",
        model=event.model,
        since=since,
        until=event.until,
        message=event.message,
    )
