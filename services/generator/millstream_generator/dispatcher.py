"""The dispatcher: keeps work queued, ends what is finished, runs the stop fence.

Every generator has one; a lease in a bucket keeps one of them active. Two at once would do no
harm: queueing a slice twice is once, and every ending is a compare-and-set.
"""

import asyncio
import contextlib
from itertools import islice

import structlog

from millstream.domain import slice as slices
from millstream.domain.batch import BatchState
from millstream.domain.decide import complete
from millstream.errors import ConflictError, LogError
from millstream.eventlog.buckets import Bucket
from millstream.eventlog.follow import follow
from millstream.eventlog.live import LiveBatches
from millstream.eventlog.stop import run_stop_fence
from millstream.eventlog.topology import ensure_topology
from millstream.eventlog.work import WorkQueue
from millstream.runtime.clock import utc_now
from millstream.runtime.lifecycle import fault_point
from millstream_generator.node import Node
from millstream_generator.slice_work import window
from millstream_schemas import subjects

log = structlog.get_logger()

LEADER_KEY = "dispatcher"
RENEW_S = 3.0
RETRY_S = 1.0
RECONCILE_S = 3.0


class Leadership:
    """Which dispatcher is active: a bucket entry that ages out 10 s after its last renewal."""

    def __init__(self, node: Node) -> None:
        self._bucket = Bucket(node.event_log.answers, subjects.NODES_BUCKET)
        self._name = node.settings.node.encode()

    async def hold(self) -> bool:
        """Take or renew the lead; False while another node has it."""
        entry = await self._bucket.get(LEADER_KEY)
        if entry is not None and entry.value != self._name:
            return False
        try:
            await self._bucket.put(LEADER_KEY, self._name, expected=entry.revision if entry else 0)
        except ConflictError:
            return False
        return True

    async def leave(self) -> None:
        """Give the lead up, so that another takes it at once."""
        entry = await self._bucket.get(LEADER_KEY)
        if entry is not None and entry.value == self._name:
            await self._bucket.delete(LEADER_KEY)


class Dispatcher:
    """Dispatches while it leads."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._log = node.event_log
        self._work = WorkQueue(node.event_log.answers)
        self._leadership = Leadership(node)
        self._live = LiveBatches({}, 0)
        self._queued: dict[str, set[int]] = {}
        self._first_open: dict[str, int] = {}
        self._fences: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Lead whenever nobody else does, until the node stops."""
        while not self._node.stop.is_set():
            try:
                if await self._leadership.hold():
                    log.info("dispatcher.leading")
                    await self._lead()
            except* LogError as group:
                log.warning("dispatcher.interrupted", reason=repr(group.exceptions))
            await self._pause(RETRY_S)
        with contextlib.suppress(LogError):  # it ages out by itself
            await self._leadership.leave()

    async def _lead(self) -> None:
        """Follow the log and tend every batch that moves; returns when the lead is lost."""
        self._live = await LiveBatches.load(self._log)
        self._queued, self._fences = {}, {}
        async with asyncio.TaskGroup() as tasks:
            rounds = [
                tasks.create_task(self._follow(tasks)),
                tasks.create_task(self._reconcile(tasks)),
            ]
            try:
                while not self._node.stop.is_set():
                    await self._pause(RENEW_S)
                    if not await self._leadership.hold():
                        log.warning("dispatcher.lead_lost")
                        return
            finally:
                # A fence that is cut off is run again by whoever leads next.
                for task in (*rounds, *self._fences.values()):
                    task.cancel()

    async def _follow(self, tasks: asyncio.TaskGroup) -> None:
        for batch_id in list(self._live.batches):
            await self._tend(batch_id, tasks)
        async with contextlib.aclosing(follow(self._log, after=self._live.sequence)) as feed:
            async for chunk in feed:
                moved = [self._live.apply(stored) for stored in chunk]
                for batch_id in {state.batch_id: None for state in moved if state}:
                    await self._tend(batch_id, tasks)

    async def _tend(self, batch_id: str, tasks: asyncio.TaskGroup) -> None:
        """Advance a batch; what the log refuses is left for the next round."""
        try:
            await self._advance(batch_id, tasks)
        except LogError as error:
            log.warning("dispatcher.postponed", batch_id=batch_id, reason=str(error))

    async def _advance(self, batch_id: str, tasks: asyncio.TaskGroup) -> None:
        """Do what the batch's state asks for."""
        async with self._turn:
            state = self._live.batches.get(batch_id)
            if state is None or state.phase != "active":
                # Workers give the slices of a paused batch up: a resumed one is looked at anew.
                self._queued.pop(batch_id, None)
            if state is None:
                self._first_open.pop(batch_id, None)
            elif state.phase == "stopping":
                await self._begin_fence(state, tasks)
            elif state.counts.pending == 0:
                await self._complete(state)
            elif state.phase == "active":
                await self._queue(state)

    async def _complete(self, state: BatchState) -> None:
        fault_point(self._node.settings, "before-completed")
        event = complete(state, self._node.stamp(causation_id=state.batch_id))
        if event is None:
            return
        try:
            await self._log.append(event, expected=state.control_sequence)
        except ConflictError:
            log.debug("dispatcher.completed_by_other", batch_id=state.batch_id)
            return
        counts = event.counts
        log.info("batch.completed", batch_id=state.batch_id, **counts.model_dump())

    async def _begin_fence(self, state: BatchState, tasks: asyncio.TaskGroup) -> None:
        stop = state.stop
        if state.batch_id in self._fences or stop is None:
            return
        if stop.event.mode == "drain" and not await self._is_drained(state):
            return
        fence = self._fence(state.batch_id, stop.event.id)
        self._fences[state.batch_id] = tasks.create_task(fence)

    async def _fence(self, batch_id: str, cause: str) -> None:
        try:
            final = await run_stop_fence(self._log, batch_id, self._node.stamper(cause))
            log.info("batch.ended", batch_id=batch_id, state=final.state)
        except LogError as error:
            log.warning("dispatcher.fence_postponed", batch_id=batch_id, reason=str(error))
        finally:
            self._fences.pop(batch_id, None)

    async def _is_drained(self, state: BatchState) -> bool:
        """Tell whether no call is in flight: no open slice is leased, or the bound passed."""
        bound_at = state.stop.event.bound_at if state.stop else None
        if bound_at is not None and utc_now() >= bound_at:
            return True
        claimed = {index for index in state.slices if not self._is_slice_done(state, index)}
        return not claimed or not claimed & await self._work.queued(state.batch_id)

    async def _queue(self, state: BatchState) -> None:
        """Keep the batch's window of slices in the work queue full."""
        spec = state.spec
        queued = self._queued.get(state.batch_id)
        if queued is None:
            fault_point(self._node.settings, "before-queue")
            queued = self._queued[state.batch_id] = await self._work.queued(state.batch_id)
        queued -= {index for index in queued if self._is_slice_done(state, index)}
        first = self._first_open.get(state.batch_id, 0)
        while first < spec.slices and self._is_slice_done(state, first):
            first += 1
        self._first_open[state.batch_id] = first
        left = (
            index
            for index in range(first, spec.slices)
            if index not in queued and not self._is_slice_done(state, index)
        )
        wanted = list(islice(left, max(0, window(spec) - len(queued))))
        if wanted:
            await self._work.enqueue(spec.pool, spec.priority, state.batch_id, wanted)
            queued |= set(wanted)

    @staticmethod
    def _is_slice_done(state: BatchState, index: int) -> bool:
        tail = state.slices.get(index)
        return tail is not None and slices.is_done(tail.state, state.slice_size(index))

    async def _reconcile(self, tasks: asyncio.TaskGroup) -> None:
        """Look at every live batch once in a while, also when no event comes.

        Slices that the queue has lost are queued again (it is a cache, the log knows what is
        left), and what was postponed gets its next round.
        """
        while True:
            await asyncio.sleep(RECONCILE_S)
            try:
                for batch_id in list(self._live.batches):
                    self._queued.pop(batch_id, None)
                    await self._advance(batch_id, tasks)
            except LogError as error:
                log.warning("dispatcher.round_cut_short", reason=str(error))
                with contextlib.suppress(LogError):
                    await ensure_topology(self._log.connection, self._node.settings)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._node.stop.wait()
