"""Tells every batch that can't go on why it waits: notes, once per route and cooldown.

All nodes learn of the same cooldown; each looks at what stands in the log before it writes, and
the note subject's last sequence lets only one of two write at once.
"""

import asyncio
import contextlib

import structlog

from millstream.domain.limits import RouteState
from millstream.domain.recorded import Recorded
from millstream.errors import ConflictError, LogError
from millstream.eventlog.stored import decode
from millstream.runtime.clock import boot_seconds
from millstream_generator.batch_notes import BatchNotes
from millstream_generator.condition import Condition
from millstream_generator.gate import Gate
from millstream_generator.held import HeldBatch, HeldBatches
from millstream_generator.node import Node
from millstream_generator.own_limits import HOLD_S, OwnWait, is_limited, is_outrun, own_waits
from millstream_generator.waits import APART, Wait, is_news, is_own_news, last_of, wait_of
from millstream_schemas import subjects
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.notes import RouteBlocked, RouteRecovered, RouteThrottled

log = structlog.get_logger()

MESSAGE_MOST = 500
LOOK_S = 1.0
"""How often the batches are looked at; what ends before the next look is not worth a note."""


class RouteNotes:
    """Writes the notes of one node."""

    def __init__(self, node: Node, held: HeldBatches) -> None:
        self._node = node
        self._held = held
        self._notes = BatchNotes(node)
        self._changed = asyncio.Event()
        self._told: dict[str, Wait | None] = {}
        """What trouble each batch that is worked on here waited for when it was looked at."""
        node.gates.listeners.append(self._listen)

    def _listen(self, condition: Condition, before: RouteState, after: RouteState) -> None:
        """Look at the batches after a change of a route that may mean something to them."""
        model, breaker, apart_s = condition.model, after.breaker, APART.total_seconds()
        if after.cooldown_until > max(condition.now(), before.cooldown_until + apart_s):
            log.warning("route.throttled", model=model, reason=after.cause)
        elif breaker is not None and (
            before.breaker is None or breaker.open_until > before.breaker.open_until + apart_s
        ):
            log.warning("route.blocked", model=model, reason=breaker.message)
        elif breaker is None and before.breaker is not None:
            log.info("route.recovered", model=model)
        else:
            return
        self._changed.set()

    async def run(self) -> None:
        """Look at all batches as routes change, and once a second; never ends."""
        look_at = 0.0
        while True:
            if self._node.gates.clock.is_measured:  # else no time can be told that all share
                await self._look_at_routes()
                if boot_seconds() >= look_at:  # however many changes there are
                    await self._look_at_limits()
            if boot_seconds() >= look_at:
                look_at = boot_seconds() + LOOK_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(look_at - boot_seconds()):
                    await self._changed.wait()
            self._changed.clear()

    async def _look_at_routes(self) -> None:
        working = self._held.working()
        ids = {batch.batch_id for batch in working}
        self._told = {known: wait for known, wait in self._told.items() if known in ids}
        for batch in working:
            if batch.gates and all(gate.condition.is_known for gate in batch.gates):
                await self._look(batch)

    async def _look(self, batch: HeldBatch) -> None:
        """Tell a batch what trouble it waits for, or that it waits no longer, if that is news."""
        clock = self._node.gates.clock
        is_first, told = batch.batch_id not in self._told, self._told.get(batch.batch_id)
        wait = wait_of(batch, clock)
        if not is_first and not _is_due(wait, told):
            return

        def choose(notes: list[BatchEvent]) -> BatchEvent | None:
            nonlocal wait
            wait = wait_of(batch, clock)
            if wait is None:
                return self._recovered(batch, told, notes)
            is_other = not is_first and (told is None or not wait.is_one_with(told))
            is_due = is_news(wait, notes, is_other=is_other)
            return self._waiting(batch, wait) if is_due else None

        if await self._notes.write(batch, choose):
            self._told[batch.batch_id] = wait

    async def _look_at_limits(self) -> None:
        working = self._held.working()
        for batch in working:
            is_moving = batch.calls or boot_seconds() - batch.called_at < 2 * LOOK_S
            if is_moving and is_limited(batch.gates):
                await self._tell_moving(batch)
        # One whose call is in flight is not held up, or by something else.
        idle = {batch.batch_id: batch for batch in working if not batch.calls}
        for gate in {gate for batch in idle.values() for gate in batch.gates}:
            for batch_id, wait in own_waits(gate).items():
                held_up = idle.get(batch_id)
                if held_up is not None and self._is_worth_telling(held_up, gate, wait):
                    await self._tell_own(held_up, gate, wait)

    async def _tell_moving(self, batch: HeldBatch) -> None:
        """Take back another node's word that the batch waits for a pace: its calls run here."""
        try:
            last = await self._last(subjects.note(batch.batch_id))
            if last is None or not is_outrun(last, batch.gates, self._node.gates.clock):
                return
            event = RouteRecovered(**self._envelope(batch), model=batch.spec.model)
            with contextlib.suppress(ConflictError):  # a newer note, which the next look sees
                await self._node.event_log.append(event, expected=last.sequence, bound_s=2.0)
        except LogError as error:
            log.warning("note.not_written", batch_id=batch.batch_id, reason=str(error))

    async def _moves_elsewhere(self, batch: HeldBatch) -> bool:
        """Tell whether another node has worked on the batch a moment ago."""
        last = await self._last(subjects.all_slices(batch.batch_id))
        if last is None or last.event.actor.id == self._node.settings.node:
            return False
        clock = self._node.gates.clock
        return clock.now() - last.stored_at.timestamp() < HOLD_S

    async def _last(self, subject: str) -> Recorded[BatchEvent] | None:
        stored = await self._node.event_log.last(subject)
        return decode(stored) if stored is not None else None

    def _is_worth_telling(self, batch: HeldBatch, gate: Gate, wait: OwnWait) -> bool:
        """Tell whether nothing was said of this wait yet: a time told holds until it has come."""
        now, told_until = gate.condition.now(), batch.told_until.get(gate.condition.key, 0.0)
        idle_s, left_s = boot_seconds() - max(wait.since, batch.called_at), wait.until - now
        return now >= told_until and left_s >= LOOK_S and idle_s + left_s >= HOLD_S

    async def _tell_own(self, batch: HeldBatch, gate: Gate, own: OwnWait) -> None:
        condition, clock = gate.condition, self._node.gates.clock
        try:
            if await self._moves_elsewhere(batch):
                return
        except LogError as error:
            log.warning("note.not_written", batch_id=batch.batch_id, reason=str(error))
            return
        batch.told_until[condition.key] = own.until
        until = clock.at(own.until)
        wait = Wait(condition.key, condition.model, "throttled", until, own.cause)
        await self._notes.write(
            batch,
            lambda notes: (
                self._waiting(batch, wait)
                if is_own_news(wait, notes, clock.at(clock.now()))
                else None
            ),
        )

    def _recovered(
        self, batch: HeldBatch, told: Wait | None, notes: list[BatchEvent]
    ) -> BatchEvent | None:
        """Return the note that the batch goes on; none where the next sample tells it anyway."""
        clock, last = self._node.gates.clock, last_of(notes)
        # A cooldown ends when it said it would, unless another route takes calls before.
        is_early = (
            told is not None
            and told.until > clock.at(clock.now()) + APART
            and isinstance(last, RouteThrottled)
        )
        if last is None or not (is_early or isinstance(last, RouteBlocked)):
            return None
        return RouteRecovered(**self._envelope(batch), model=last.model)

    def _waiting(self, batch: HeldBatch, wait: Wait) -> BatchEvent:
        fields = {"model": wait.model, "until": wait.until, "message": wait.message[:MESSAGE_MOST]}
        if wait.kind == "throttled":
            return RouteThrottled(**self._envelope(batch), **fields)
        return RouteBlocked(**self._envelope(batch), **fields, failures=wait.failures)

    def _envelope(self, batch: HeldBatch) -> dict[str, object]:
        stamp = self._node.stamp(causation_id=batch.started_id)
        return stamp.envelope(batch.batch_id, subjects.note(batch.batch_id))


def _is_due(wait: Wait | None, told: Wait | None) -> bool:
    """Tell whether what was told of a batch differs from what it waits for."""
    if wait is None or told is None:
        return wait is not told
    return not wait.is_one_with(told) or wait.until > told.until + APART
