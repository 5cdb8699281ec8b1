"""The batches this node works on: what they pinned, and whether they may start a call.

Control events come three ways: the stop signal and the republished control events at once, and a
re-read from the leader once a second, since both of the others may be lost.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal

import structlog
from nats.aio.msg import Msg

from millstream.domain.plan import Plan
from millstream.errors import LogError
from millstream.eventlog.answers import subscribed
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import Stored, decode, from_headers
from millstream.runtime.clock import boot_seconds
from millstream_generator.completion import CallFailedError, Completion
from millstream_generator.duplicates import DuplicateIndex
from millstream_generator.policy import Verdict
from millstream_schemas import control, subjects
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.routes import Route

log = structlog.get_logger()

REREAD_S = 1.0
OLD_S = 1.5
"""Control that was not read for so long: this process was frozen, or the log is away."""

Standing = Literal["active", "paused", "draining", "over"]
"""What a batch lets this node do: call; wait to be resumed; finish calls; drop everything."""


class HeldBatch:
    """One batch of which this node holds slices."""

    def __init__(self, batch_id: str, started: control.BatchStarted) -> None:
        self.batch_id = batch_id
        self.started_id = started.id
        self.spec = started.spec
        self.plan = Plan(started.spec)
        self.seen = DuplicateIndex()
        self.verdict = Verdict()
        self.standing: Standing = "active"
        self.sequence = 0
        self.holders = 0
        self.calls: set[asyncio.Task[Completion | CallFailedError]] = set()
        self.changed = asyncio.Condition()
        self.is_doubtful = False
        self.read_at = boot_seconds()
        self._first_call = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def turn(self, route: Route) -> AsyncIterator[None]:
        """Let the first call to the local model go alone.

        Its slots share the processor: four cold prompts at once would keep a person waiting
        three times as long for the first sample.
        """
        if route.provider == "local" and not self.verdict.has_succeeded:
            async with self._first_call:
                if not self.verdict.has_succeeded:
                    yield
                    return
        yield

    @property
    def may_call(self) -> bool:
        """Whether a call may start now."""
        return self.standing == "active" and not self.is_doubtful

    async def settled(self) -> bool:
        """Wait until it is sure whether calls may start, and tell it."""
        async with self.changed:
            await self.changed.wait_for(lambda: not self.is_doubtful)
        return self.may_call

    async def take(self, sequence: int, event: BatchEvent) -> None:
        """Follow a control event that is newer than the last one."""
        if sequence <= self.sequence:
            if self.is_doubtful:
                await self._settle(self.standing)
            return
        self.sequence = sequence
        await self._settle(_standing(event))

    async def doubt(self) -> None:
        """A stop was signalled but may not be stored yet: cancel calls, start none, find out."""
        async with self.changed:
            self.is_doubtful = self.standing == "active"
            if self.is_doubtful:
                self.cancel_calls()

    async def _settle(self, standing: Standing) -> None:
        async with self.changed:
            self.standing = standing
            self.is_doubtful = False
            if standing == "over":
                self.cancel_calls()
            self.changed.notify_all()

    def cancel_calls(self) -> None:
        """Cancel every call in flight; streamed calls free their server at once."""
        for call in self.calls:
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

    async def _load(self, batch_id: str) -> HeldBatch | None:
        stored = await self._log.after(subjects.control(batch_id), 0)
        recorded = decode(stored) if stored else None
        if recorded is None or not isinstance(recorded.event, control.BatchStarted):
            return None
        return HeldBatch(batch_id, recorded.event)

    def cancel_all_calls(self) -> None:
        """Cancel the calls of all batches: the node leaves."""
        for batch in self._held.values():
            batch.cancel_calls()

    async def refresh(self, batch: HeldBatch) -> None:
        """Read the batch's last control event from its leader."""
        read_at = boot_seconds()
        stored = await self._log.last(subjects.control(batch.batch_id))
        batch.read_at = read_at
        if stored is not None:
            await self._take(stored)

    async def refresh_if_old(self, batch: HeldBatch) -> None:
        """Read again what a frozen process has missed: control is read once a second else."""
        if boot_seconds() - batch.read_at > OLD_S:
            await self.refresh(batch)

    async def _take(self, stored: Stored) -> None:
        batch = self._held.get(stored.subject.split(".")[2])
        recorded = decode(stored) if batch else None
        if batch is not None and recorded is not None:
            await batch.take(recorded.sequence, recorded.event)

    async def listen(self) -> None:
        """Keep all held batches up to date; never ends."""

        async def on_signal(message: Msg) -> None:
            batch = self._held.get(message.subject.rpartition(".")[2])
            if batch is not None:
                await batch.doubt()

        async def on_control(message: Msg) -> None:
            batch = self._held.get(message.subject.split(".")[3])
            if batch is not None:
                await self._take(from_headers(message.headers or {}, message.data))

        connection = self._log.connection
        async with (
            subscribed(connection, subjects.ALL_STOPS, on_signal),
            subscribed(connection, subjects.LIVE_CONTROL, on_control),
        ):
            while True:
                await self._reread()
                await asyncio.sleep(REREAD_S)

    async def _reread(self) -> None:
        for batch in list(self._held.values()):
            try:
                await self.refresh(batch)
            except LogError as error:
                log.warning("control.reread_failed", batch_id=batch.batch_id, reason=str(error))
            if batch.holders == 0 and batch.standing == "over":
                self._held.pop(batch.batch_id, None)
