"""What holds a batch up on this node: trouble of all its routes, or the pace that one has."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from millstream.eventlog.limits import LogClock
from millstream_generator.gate import Gate
from millstream_generator.held import HeldBatch
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.notes import RouteBlocked, RouteRecovered, RouteThrottled

SAME = timedelta(seconds=1)
"""Nodes tell the end of one cooldown by clocks that differ a little."""
APART = timedelta(seconds=0.5)
"""What is known here at once is stored a moment later, with a time a little later."""


@dataclass(frozen=True, slots=True)
class Wait:
    """No call of a batch starts before ``until``; ``key`` is the route that may take it first."""

    key: str
    model: str
    kind: Literal["throttled", "blocked"]
    until: datetime
    cause: str
    failures: int = 0

    @property
    def message(self) -> str:
        """The wait in words."""
        if self.kind == "throttled":
            return f"throttled until {self.until:%H:%M:%S} UTC: {self.cause}"
        return f"blocked: {self.cause}; next probe at {self.until:%H:%M:%S} UTC"

    def is_one_with(self, told: "Wait") -> bool:
        """Tell whether both are waits for one route, in the same trouble."""
        return (self.key, self.kind) == (told.key, told.kind)


def wait_of(batch: HeldBatch, clock: LogClock) -> Wait | None:
    """Return what trouble holds the batch up; None while one of its routes takes calls."""
    is_unknown = batch.verdict.is_unknown
    left = [gate for index, gate in enumerate(batch.gates) if not is_unknown(index)]
    waits = [_trouble(gate, clock) for gate in left or batch.gates]
    known = [wait for wait in waits if wait is not None]
    return min(known, key=lambda wait: wait.until) if known and len(known) == len(waits) else None


def _trouble(gate: Gate, clock: LogClock) -> Wait | None:
    condition = gate.condition
    trouble = condition.trouble(may_probe=False)
    if trouble is None:
        return None
    breaker = condition.own.breaker or condition.state.breaker
    failures = breaker.failures if breaker else 0
    until = clock.at(trouble.until)
    return Wait(condition.key, condition.model, trouble.kind, until, trouble.message, failures)


def is_own_news(wait: Wait, notes: Sequence[BatchEvent], now: datetime) -> bool:
    """Tell whether a batch with these notes has yet to hear of a wait for a route's own pace.

    Each node tells of its own calls: the earliest time of them is the batch's, a later one is not.
    """
    alike = [
        note for note in notes if isinstance(note, RouteThrottled) and note.model == wait.model
    ]
    if any(abs(note.until - wait.until) <= SAME for note in alike):
        return False
    return not (alike and last_of(notes) is alike[-1] and now < alike[-1].until < wait.until)


def is_news(wait: Wait, notes: Sequence[BatchEvent], *, is_other: bool) -> bool:
    """Tell whether a batch with these notes, in order, has yet to hear of trouble.

    Args:
        wait: What holds the batch up.
        notes: The batch's notes.
        is_other: Whether this node knows that the batch was free, or waited for something else,
            since it looked first: a note from before does not tell of this wait then.
    """
    kind = RouteThrottled if wait.kind == "throttled" else RouteBlocked
    alike = [note for note in notes if isinstance(note, kind) and note.model == wait.model]
    tells_last = bool(alike) and last_of(notes) is alike[-1]
    if is_other:
        return not tells_last or abs(alike[-1].until - wait.until) > SAME
    is_told = any(abs(note.until - wait.until) <= SAME for note in alike)
    return not is_told and not (tells_last and alike[-1].until > wait.until)


def last_of(notes: Sequence[BatchEvent]) -> RouteThrottled | RouteBlocked | RouteRecovered | None:
    """Return the last of a batch's notes that tells of a route."""
    kinds = RouteThrottled | RouteBlocked | RouteRecovered
    return next((note for note in reversed(notes) if isinstance(note, kinds)), None)
