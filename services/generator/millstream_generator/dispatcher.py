"""The dispatcher: keeps work queued, ends what is finished, runs the stop fence.

Every generator has one; a lease in a bucket keeps one of them active. Two at once would do no
harm: queueing a slice twice is once, and every ending is a compare-and-set.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from functools import partial

import structlog

from millstream.call_bounds import call_bound
from millstream.domain.batch_state import BatchState
from millstream.domain.decide import complete
from millstream.domain.slice import parallel_calls
from millstream.errors import ConflictError, LogError
from millstream.eventlog.follow import follow
from millstream.eventlog.live import LiveBatches
from millstream.eventlog.stop import run_stop_fence
from millstream.eventlog.stored import Stored
from millstream.eventlog.work import WorkQueue, WorkSize
from millstream.runtime.lifecycle import fault_point
from millstream_generator.budgets import BudgetWatch, is_any
from millstream_generator.grants import Ledgers, Purse
from millstream_generator.leadership import Leadership
from millstream_generator.newest import newest
from millstream_generator.node import Node
from millstream_generator.rounds import Rounds, Tended
from millstream_generator.windows import Window, pending

log = structlog.get_logger()

RENEW_S = 3.0
RETRY_S = 1.0
TICK_S = 0.25
AT_ONCE = 64
"""Batches tended at once: each waits for the server, and there may be thousands."""


class Dispatcher:
    """Dispatches while it leads."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._log = node.event_log
        self._work = WorkQueue(node.event_log.answers)
        self._leadership = Leadership(node)
        self._ledgers = Ledgers(node.event_log.answers)
        self._budgets = BudgetWatch(node)
        self._live = LiveBatches({}, 0)
        self._tended: dict[str, Tended] = {}
        self._timed: set[str] = set()
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Lead whenever nobody else does, until the node stops."""
        async with self._leadership.listening():
            while not self._node.stop.is_set():
                try:
                    if await self._leadership.hold():
                        log.info("dispatcher.leading")
                        await self._lead()
                except* LogError as group:
                    log.warning("dispatcher.interrupted", reason=repr(group.exceptions))
                await self._pause(RETRY_S)
            # Still heard: whoever took the lead of a silent node would lose it to this.
            with contextlib.suppress(LogError):  # it ages out by itself
                await self._leadership.leave()

    async def _lead(self) -> None:
        """Follow the log and tend every batch that moves; returns when the lead is lost."""
        self._live = await LiveBatches.load(self._log)
        self._tended, self._timed = {}, set()
        async with asyncio.TaskGroup() as tasks:
            rounds = [
                tasks.create_task(self._follow(tasks)),
                tasks.create_task(self._watch_times(tasks)),
            ]
            try:
                while not self._node.stop.is_set():
                    await self._pause(RENEW_S)
                    if not await self._leadership.hold():
                        log.warning("dispatcher.lead_lost")
                        return
            finally:
                # A fence that is cut off is run again by whoever leads next.
                fences = [tended.fence for tended in self._tended.values() if tended.fence]
                for task in (*rounds, *fences):
                    task.cancel()

    async def _follow(self, tasks: asyncio.TaskGroup) -> None:
        """Look at everything once, then at what moves, and now and then at everything again."""
        tend = partial(self._tend_all, tasks=tasks)
        rounds = Rounds(self._node, self._live, self._tended_of, tend)
        await rounds.reconcile()
        keeping = tasks.create_task(rounds.keep())
        try:
            async with contextlib.aclosing(follow(self._log, after=self._live.sequence)) as feed:
                async for chunk in feed:
                    await self._tend_all(self._moved(chunk), tasks)
        finally:
            keeping.cancel()

    def _moved(self, chunk: list[Stored]) -> set[str]:
        """Fold a chunk; return the batches for which something may have to be done."""
        moved: set[str] = set()
        for stored, parsed in newest(chunk):
            state = self._live.apply(stored)
            if state is None:
                continue
            tended = self._tended.get(state.batch_id)
            if (
                tended is None
                or parsed is None
                or tended.window.moved(state, parsed[1])
                or is_any(state.spec.budgets)
            ):
                moved.add(state.batch_id)
        return moved

    async def _tend_all(self, batch_ids: Iterable[str], tasks: asyncio.TaskGroup) -> None:
        """Advance batches side by side."""
        async with asyncio.TaskGroup() as group:
            for batch_id in batch_ids:
                group.create_task(self._tend(batch_id, tasks))

    async def _tend(self, batch_id: str, tasks: asyncio.TaskGroup) -> None:
        """Advance a batch; what the log refuses is left for the next round."""
        state = self._live.batches.get(batch_id)
        if state is None:
            ended = self._tended.pop(batch_id, None)
            self._timed.discard(batch_id)
            if ended is not None and ended.purse is not None:
                with contextlib.suppress(LogError):  # a few bytes stay
                    await self._ledgers.drop(batch_id)
            return
        tended = self._tended_of(state)
        async with self._at_once, tended.lock:
            try:
                await self._advance(self._live.batches.get(batch_id, state), tended, tasks)
            except LogError as error:
                log.warning("dispatcher.postponed", batch_id=batch_id, reason=str(error))
            except Exception:
                # One batch's defect must not take the others down; the next round tries again.
                log.exception("dispatcher.crashed", batch_id=batch_id)

    def _tended_of(self, state: BatchState) -> Tended:
        tended = self._tended.get(state.batch_id)
        if tended is None:
            tended = self._tended[state.batch_id] = Tended(Window(state))
        return tended

    async def _advance(self, state: BatchState, tended: Tended, tasks: asyncio.TaskGroup) -> None:
        """Do what the batch's state asks for."""
        if state.is_final:
            return
        if state.phase != "active":
            # Workers give the slices of a paused batch up: a resumed one is looked at anew.
            tended.window.forget_queue()
        if state.phase == "stopping":
            await self._begin_fence(state, tended, tasks)
        elif not pending(state):
            await self._complete(state)
        elif is_any(state.spec.budgets):
            await self._keep_within_budgets(state, tended)
        elif state.phase == "active":
            await self._queue(state, tended)

    async def _keep_within_budgets(self, state: BatchState, tended: Tended) -> None:
        """Queue what the batch's budgets let start; warn or stop where it is time."""
        as_of, budgets = self._live.sequence, state.spec.budgets
        if budgets.bounds_calls and tended.purse is None:
            bound = await asyncio.to_thread(call_bound, state.spec)
            tended.purse = Purse(self._ledgers, bound)
        if budgets.max_duration_s is not None:
            self._timed.add(state.batch_id)
        if state.phase == "active":
            await self._queue(state, tended, as_of)
        await self._budgets.look(state, as_of, tended.purse)

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
        log.info("batch.completed", batch_id=state.batch_id, **event.counts.model_dump())

    async def _begin_fence(
        self, state: BatchState, tended: Tended, tasks: asyncio.TaskGroup
    ) -> None:
        stop = state.stop
        if tended.fence is not None or stop is None:
            return
        if stop.event.mode == "drain" and tended.window.held:  # with calls in flight, it may be
            self._timed.add(state.batch_id)
            if state.drains_until is None or await self._node.log_time() < state.drains_until:
                return
        tended.fence = tasks.create_task(self._fence(state.batch_id, tended, stop.event.id))

    async def _fence(self, batch_id: str, tended: Tended, cause: str) -> None:
        try:
            final = await run_stop_fence(self._log, batch_id, self._node.stamper(cause))
            log.info("batch.ended", batch_id=batch_id, state=final.state)
        except LogError as error:
            log.warning("dispatcher.fence_postponed", batch_id=batch_id, reason=str(error))
        finally:
            tended.fence = None

    async def _queue(self, state: BatchState, tended: Tended, as_of: int = 0) -> None:
        """Keep the batch's window of slices in the work queue full.

        ``as_of`` is the sequence up to which ``state`` is folded; only budgets ask for it.
        """
        window, spec = tended.window, state.spec
        if not window.is_known:
            fault_point(self._node.settings, "before-queue")
            window.matched(state, await self._work.queued(state.batch_id))
        wanted = window.wanted(state)
        if tended.purse is not None:
            wanted = await tended.purse.claimable(state, as_of, window, wanted)
        if wanted:
            size = WorkSize(calls=parallel_calls(spec), slots=spec.slice_size)
            await self._work.enqueue(spec.pool, state.priority, state.batch_id, wanted, size)
            window.is_queued(wanted)

    async def _watch_times(self, tasks: asyncio.TaskGroup) -> None:
        """Tend batches for which time itself changes something."""
        while True:
            await asyncio.sleep(TICK_S)
            await self._tend_all(list(self._timed), tasks)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._node.stop.wait()
