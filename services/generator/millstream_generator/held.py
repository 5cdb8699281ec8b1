"""The batches this node works on: what they pinned, and whether they may start a call.

Control events come three ways: the stop signal and the republished control events at once, and a
re-read from the leader once a second, since both of the others may be lost.
"""

import asyncio
import contextlib
import itertools
import math
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Literal

import structlog
from nats.aio.msg import Msg

from millstream.domain.plan import Plan
from millstream.errors import LogError
from millstream.eventlog.aggregate import load_batch
from millstream.eventlog.answers import subscribed
from millstream.eventlog.limits import LogClock
from millstream.eventlog.log import EventLog
from millstream.eventlog.stop import FENCED
from millstream.eventlog.stored import Stored, decode, from_headers
from millstream.runtime.clock import boot_seconds
from millstream_generator.calls import Call
from millstream_generator.duplicates import DuplicateIndex
from millstream_generator.gate import Gate
from millstream_generator.gates import Gates
from millstream_generator.own_outcomes import OwnOutcomes
from millstream_generator.policy import Verdict
from millstream_schemas import control, subjects
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.routes import Route

log = structlog.get_logger()

REREAD_S = 1.0
IDLE_ROUNDS = 30
"""A batch of which the node holds no slice is read once in so many rounds: has it ended?"""
OLD_S = 1.5
"""Control that was not read for so long: this process was frozen, or the log is away."""

Standing = Literal["active", "paused", "draining", "over"]
"""What a batch lets this node do: call; wait to be resumed; finish calls; drop everything."""


_AT_ONCE = contextlib.nullcontext()


class HeldBatch:
    """One batch of which this node holds slices."""

    def __init__(self, batch_id: str, started: control.BatchStarted, at: datetime) -> None:
        """Take up a batch that was ``started`` at that time of the log."""
        self.batch_id = batch_id
        lasts_s = started.spec.budgets.max_duration_s
        self.ends_at = math.inf if lasts_s is None else at.timestamp() + lasts_s
        """When its time is up, in seconds of the log's clock."""
        self._clock: LogClock | None = None
        self.started_id = started.id
        self.spec = started.spec
        self.plan = Plan(started.spec)
        self.seen = DuplicateIndex()
        self.verdict = Verdict(len(started.spec.routes))
        self.own = OwnOutcomes(started.spec.budgets.max_failure_ratio)
        self.answered_slot: int | None = None
        """The slot whose call was answered last on this node."""
        self.gates: tuple[Gate, ...] = ()
        self.told_until: dict[str, float] = {}
        """By route: until when (the log's time) the batch was told that it waits for a limit."""
        self.detours: set[str] = set()
        """The routes, by their keys, of which the batch was told that litellm calls them."""
        self.held_since = boot_seconds()
        self.standing: Standing = "active"
        self.sequence = 0
        self.holders = 0
        self.calls: set[Call] = set()
        self.rests: set[Call] = set()
        """Slots that wait for a turn or for their next attempt: a stop ends that at once, too."""
        self.changed = asyncio.Condition()
        self.is_doubtful = False
        self.read_at = boot_seconds()
        self.called_at = 0.0
        """When a call of the batch ended last on this node."""
        self._first_call = asyncio.Lock()

    def come_to(self, gates: Gates) -> None:
        """Get the gates of the batch's routes; each finds out how its route does meanwhile."""
        self._clock = gates.clock
        if not self.gates:
            self.gates = gates.of(self.spec.routes)
            for gate in self.gates:
                gate.condition.try_key_again()

    def turn(self, route: Route) -> contextlib.AbstractAsyncContextManager[None]:
        """Let the first call to the local model go alone.

        Its slots share the processor: four cold prompts at once would keep a person waiting
        three times as long for the first sample.
        """
        if route.provider == "local" and not self.verdict.has_succeeded:
            return self._alone()
        return _AT_ONCE

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with self._first_call:
            if not self.verdict.has_succeeded:
                yield
                return
        yield

    @property
    def is_read_long_ago(self) -> bool:
        """Whether control was last read so long ago that this process must have been frozen."""
        return boot_seconds() - self.read_at > OLD_S

    @property
    def is_over_time(self) -> bool:
        """Whether its time is up, as far as the log's clock is known: no call starts then."""
        return self.is_past(self.ends_at)

    def is_past(self, moment: float) -> bool:
        """Tell whether it is later than ``moment``; not while nobody knows the log's time."""
        clock = self._clock
        return clock is not None and clock.is_measured and clock.now() >= moment

    @property
    def may_call(self) -> bool:
        """Whether a call may start now."""
        return self.standing == "active" and not self.is_doubtful

    async def settled(self) -> bool:
        """Wait until it is sure whether calls may start, and tell it."""
        if self.is_doubtful:
            async with self.changed:
                await self.changed.wait_for(lambda: not self.is_doubtful)
        return self.may_call

    async def take(self, sequence: int, standing: Standing) -> None:
        """Follow the control event of ``sequence``; older ones than the last change nothing."""
        if sequence > self.sequence:
            self.sequence = sequence
            await self._settle(standing)
        elif self.is_doubtful:
            await self._settle(self.standing)

    async def doubt(self) -> None:
        """A stop was signalled but may not be stored yet: cancel calls, start none, find out."""
        self.is_doubtful = self.standing == "active"
        if self.is_doubtful:
            self.cancel_calls()

    async def fence(self) -> None:
        """The stop fence runs: a drain waits for calls in flight no longer."""
        if self.standing == "draining":
            await self._settle("over")
        else:
            await self.doubt()

    async def _settle(self, standing: Standing) -> None:
        # Before any wait: no call may start on the old standing until the lock is free.
        self.standing = standing
        self.is_doubtful = False
        if standing == "over":
            self.cancel_calls()
        async with self.changed:
            self.changed.notify_all()

    def cancel_calls(self) -> None:
        """Cancel every call in flight, and waits; streamed calls free their server at once."""
        for call in itertools.chain(self.calls, self.rests):
            call.cancel()


def _standing(event: BatchEvent) -> Standing:
    match event:
        case control.BatchStarted() | control.BatchResumed():
            return "active"
        case control.BatchPaused():
            return "paused"
        case control.BatchStopRequested(mode="drain"):
            return "draining"
        case _:
            return "over"


class HeldBatches:
    """All batches this node works on."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self._held: dict[str, HeldBatch] = {}
        self._loading = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def hold(self, batch_id: str) -> AsyncIterator[HeldBatch | None]:
        """Give the batch while a slice of it is worked on; None when it was never started."""
        async with self._loading:
            batch = self._held.get(batch_id) or await self._load(batch_id)
            if batch is not None:
                batch.holders += 1
                self._held[batch_id] = batch
        if batch is None:
            yield None
            return
        try:
            yield batch
        finally:
            batch.holders -= 1

    def working(self) -> list[HeldBatch]:
        """Return the batches of which this node holds a slice now."""
        return [batch for batch in self._held.values() if batch.holders]

    async def _load(self, batch_id: str) -> HeldBatch | None:
        stored = await self._log.after(subjects.control(batch_id), 0)
        recorded = decode(stored) if stored else None
        if recorded is None or not isinstance(recorded.event, control.BatchStarted):
            return None
        return HeldBatch(batch_id, recorded.event, recorded.stored_at)

    def cancel_all_calls(self) -> None:
        """Cancel the calls of all batches: the node leaves."""
        for batch in self._held.values():
            batch.cancel_calls()

    async def refresh(self, batch: HeldBatch) -> None:
        """Read the batch's last control event from its leader."""
        read_at = boot_seconds()
        stored = await self._log.last(subjects.control(batch.batch_id))
        if stored is not None:
            await self._take(stored)
        batch.read_at = read_at

    async def refresh_if_old(self, batch: HeldBatch) -> None:
        """Read again what a frozen process has missed: control is read once a second else."""
        if batch.is_read_long_ago:
            await self.refresh(batch)

    async def _take(self, stored: Stored) -> None:
        batch = self._held.get(stored.subject.split(".")[2])
        recorded = decode(stored) if batch else None
        if batch is not None and recorded is not None:
            standing = batch.standing
            if recorded.sequence > batch.sequence:
                standing = await self._standing_after(recorded.event)
            await batch.take(recorded.sequence, standing)

    async def _standing_after(self, event: BatchEvent) -> Standing:
        """Return what a control event leads to; one that changes no phase does not say."""
        if isinstance(event, control.BatchPriorityChanged):
            phase = (await load_batch(self._log, event.batch_id, slices=False)).phase
            return "paused" if phase == "paused" else "active" if phase == "active" else "over"
        return _standing(event)

    async def listen(self) -> None:
        """Keep all held batches up to date; never ends."""

        async def on_signal(message: Msg) -> None:
            batch = self._held.get(message.subject.rpartition(".")[2])
            if batch is not None:
                await (batch.fence() if message.data == FENCED else batch.doubt())

        async def on_control(message: Msg) -> None:
            batch = self._held.get(message.subject.split(".")[3])
            if batch is not None:
                with contextlib.suppress(LogError):  # it is read again within a second
                    await self._take(from_headers(message.headers or {}, message.data))

        connection = self._log.connection
        async with (
            subscribed(connection, subjects.ALL_STOPS, on_signal),
            subscribed(connection, subjects.LIVE_CONTROL, on_control),
        ):
            for number in itertools.count():
                await self._reread(with_idle=number % IDLE_ROUNDS == 0)
                await asyncio.sleep(REREAD_S)

    async def _reread(self, *, with_idle: bool) -> None:
        for batch in list(self._held.values()):
            if not batch.holders and batch.standing != "over" and not with_idle:
                continue
            try:
                await self.refresh(batch)
            except LogError as error:
                log.warning("control.reread_failed", batch_id=batch.batch_id, reason=str(error))
            if batch.holders == 0 and batch.standing == "over":
                self._held.pop(batch.batch_id, None)
