"""Tells every batch that waits for a route why it does: notes, once per route and cooldown.

All nodes learn of the same cooldown; each looks at what stands in the log before it writes, and
the note subject's last sequence lets only one of two write at once.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import structlog

from millstream.domain.limits import RouteState
from millstream.errors import ConflictError, LogError
from millstream.eventlog.stored import decode
from millstream.runtime.clock import boot_seconds
from millstream_generator.condition import Condition
from millstream_generator.gate import Gate
from millstream_generator.held import HeldBatch, HeldBatches
from millstream_generator.node import Node
from millstream_generator.own_limits import HOLD_S, OwnWait, own_waits
from millstream_schemas import subjects
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.notes import RouteBlocked, RouteRecovered, RouteThrottled

log = structlog.get_logger()

CONFLICTS_MOST = 10
CONFLICT_PAUSE_S = 0.05
SAME = timedelta(seconds=1)
"""Nodes tell the end of one cooldown by clocks that differ a little."""
APART_S = 0.5
"""What is known here at once is stored a moment later, with a time a little later."""
MESSAGE_MOST = 500
LOOK_S = 1.0
"""How often the lines are looked at; what ends before the next look is not worth a note."""
ROUTE_NOTES = (RouteThrottled, RouteBlocked, RouteRecovered)


@dataclass(frozen=True, slots=True)
class Change:
    """What has become of a route."""

    key: str
    model: str
    kind: Literal["throttled", "blocked", "recovered"]
    until: datetime
    failures: int = 0
    message: str = ""
    batch_id: str | None = None
    """The one batch that it means something to; None: every one that calls the route."""


class RouteNotes:
    """Writes the notes of one node."""

    def __init__(self, node: Node, held: HeldBatches) -> None:
        self._node = node
        self._held = held
        self._changes: asyncio.Queue[Change] = asyncio.Queue()
        node.gates.listeners.append(self._listen)

    def _listen(self, condition: Condition, before: RouteState, after: RouteState) -> None:
        """Queue what a change of a route means, if it means anything to a batch."""
        clock = self._node.gates.clock
        if not clock.is_measured:
            return  # what is stored a moment later tells it with the right times
        now, breaker = clock.now(), after.breaker
        if after.cooldown_until > max(now, before.cooldown_until + APART_S):
            until = clock.at(after.cooldown_until)
            words = f"throttled until {until:%H:%M:%S} UTC: {after.cause}"
            self._tell(Change(condition.key, condition.model, "throttled", until, 0, words))
        if breaker is not None and (
            before.breaker is None or breaker.open_until > before.breaker.open_until + APART_S
        ):
            until = clock.at(breaker.open_until)
            words = f"blocked: {breaker.message}; next probe at {until:%H:%M:%S} UTC"
            failures = breaker.failures
            self._tell(Change(condition.key, condition.model, "blocked", until, failures, words))
        elif breaker is None and before.breaker is not None:
            self._tell(Change(condition.key, condition.model, "recovered", clock.at(now)))

    def _tell(self, change: Change) -> None:
        level = log.info if change.kind == "recovered" else log.warning
        level(f"route.{change.kind}", model=change.model, reason=change.message)
        self._changes.put_nowait(change)

    async def run(self) -> None:
        """Write notes as routes change, and as batches wait for their limits; never ends."""
        look_at = 0.0
        while True:
            if boot_seconds() >= look_at:  # however many changes there are to tell
                self._look_at_limits()
                look_at = boot_seconds() + LOOK_S
            try:
                async with asyncio.timeout(look_at - boot_seconds()):
                    change = await self._changes.get()
            except TimeoutError:
                continue
            for batch in self._held.working():
                if change.batch_id in {None, batch.batch_id} and any(
                    gate.condition.key == change.key for gate in batch.gates
                ):
                    try:
                        await self._write(batch, change)
                    except LogError as error:
                        log.warning("note.not_written", batch_id=batch.batch_id, reason=str(error))

    def _look_at_limits(self) -> None:
        clock = self._node.gates.clock
        if not clock.is_measured:
            return
        # One whose call is in flight is not held up, or by something else.
        idle = {batch.batch_id: batch for batch in self._held.working() if not batch.calls}
        for gate in {gate for batch in idle.values() for gate in batch.gates}:
            for batch_id, wait in own_waits(gate).items():
                batch = idle.get(batch_id)
                if batch is not None and self._is_worth_telling(batch, gate, wait):
                    self._tell_wait(batch, gate, wait)

    def _is_worth_telling(self, batch: HeldBatch, gate: Gate, wait: OwnWait) -> bool:
        """Tell whether nothing was said of this wait yet: a time told holds until it has come."""
        now, told_until = gate.condition.now(), batch.told_until.get(gate.condition.key, 0.0)
        idle_s, left_s = boot_seconds() - max(wait.since, batch.called_at), wait.until - now
        return now >= told_until and left_s >= LOOK_S and idle_s + left_s >= HOLD_S

    def _tell_wait(self, batch: HeldBatch, gate: Gate, wait: OwnWait) -> None:
        condition = gate.condition
        batch.told_until[condition.key] = wait.until
        until = self._node.gates.clock.at(wait.until)
        words = f"throttled until {until:%H:%M:%S} UTC: {wait.cause}"
        self._changes.put_nowait(
            Change(condition.key, condition.model, "throttled", until, 0, words, batch.batch_id)
        )

    async def _write(self, batch: HeldBatch, change: Change) -> None:
        for _ in range(CONFLICTS_MOST):
            if batch.standing == "over":
                return
            notes, last = await self._notes(batch.batch_id)
            if not is_news(change, notes):
                return
            try:
                event = self._event(batch, change)
                await self._node.event_log.append(event, expected=last, bound_s=2.0)
            except ConflictError:
                await asyncio.sleep(CONFLICT_PAUSE_S)
                continue
            return

    async def _notes(self, batch_id: str) -> tuple[list[BatchEvent], int]:
        """Return the batch's notes in order, and the sequence of the last one."""
        found: list[BatchEvent] = []
        last = 0
        async for page in self._node.event_log.history(subjects.note(batch_id)):
            for stored in page:
                last = stored.sequence
                recorded = decode(stored)
                if recorded is not None:
                    found.append(recorded.event)
        return found, last

    def _event(self, batch: HeldBatch, change: Change) -> BatchEvent:
        stamp = self._node.stamp(causation_id=batch.started_id)
        envelope = stamp.envelope(batch.batch_id, subjects.note(batch.batch_id))
        match change.kind:
            case "throttled":
                return RouteThrottled(
                    **envelope,
                    model=change.model,
                    until=change.until,
                    message=change.message[:MESSAGE_MOST],
                )
            case "blocked":
                return RouteBlocked(
                    **envelope,
                    model=change.model,
                    until=change.until,
                    failures=change.failures,
                    message=change.message[:MESSAGE_MOST],
                )
            case _:
                return RouteRecovered(**envelope, model=change.model)


def is_news(change: Change, notes: list[BatchEvent]) -> bool:
    """Tell whether a batch with these notes, in order, has yet to hear of ``change``."""
    last = next(
        (
            note
            for note in reversed(notes)
            if isinstance(note, ROUTE_NOTES) and note.model == change.model
        ),
        None,
    )
    if change.kind == "recovered":
        return isinstance(last, RouteThrottled | RouteBlocked)
    kind = RouteThrottled if change.kind == "throttled" else RouteBlocked
    return not any(
        isinstance(note, kind) and note.model == change.model and note.until >= change.until - SAME
        for note in notes
    )
