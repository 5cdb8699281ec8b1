"""One lease: claim the slice, fill its open slots, give the lease up.

No call starts before the claim is stored, control is read after it, and the lease is held.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

import structlog

from millstream.domain import slice as slices
from millstream.domain.decide import fail
from millstream.errors import LogError, LogUnavailableError
from millstream.eventlog.aggregate import append_decision
from millstream.eventlog.presence import heard
from millstream.eventlog.stop import run_stop_fence
from millstream.eventlog.work import Lease
from millstream.runtime.lifecycle import fault_point
from millstream_generator import steps
from millstream_generator.claims import Claim
from millstream_generator.completion import FatalError
from millstream_generator.failures import safe_message
from millstream_generator.held import HeldBatch, HeldBatches
from millstream_generator.in_flight import InFlight, foreseen
from millstream_generator.node import Node
from millstream_generator.room import Workers
from millstream_generator.slot_work import SlotWork
from millstream_generator.writer import LeaseLostError, SliceWriter
from millstream_schemas import subjects
from millstream_schemas.errors import ErrorInfo

log = structlog.get_logger()

AWAY_S = 0.25
HERE_S = 1.0
GRANTED_LEASE_S = 6.0
"""A node's beat ages out 10 s after it, and it beats every 3 s: one that is silent for this long
may soon count as dead, and what it was granted be granted to another."""
GRANT_S = 0.1
"""How long a slice that needs another grant waits for it before it is offered again."""
UNGRANTED_S = 0.5
"""The same for one that had none when it was offered."""


async def work_on(node: Node, held: HeldBatches, lease: Lease, workers: Workers) -> None:
    """Do what can be done of one leased slice; the lease is done or given back at the end."""
    batch_id, index = lease.work.batch_id, lease.work.slice_index
    if (batch_id, index) in node.at_work:
        # The lease lapsed in an outage, but whoever works on it here goes on: let it.
        with contextlib.suppress(LogUnavailableError):
            await lease.give_back(HERE_S)
        return
    node.at_work.add((batch_id, index))
    try:
        async with held.hold(batch_id) as batch:
            if batch is None or index >= batch.spec.slices:
                log.warning("slice.unknown", batch_id=batch_id, slice=index)
                await lease.done()
                return
            await _SliceWork(node, held, batch, lease, workers).run()
    except* (LogError, LeaseLostError) as group:
        # The lease runs out and the slice comes back: to us or to a node that can reach the log.
        log.warning("slice.dropped", batch_id=batch_id, slice=index, reason=repr(group.exceptions))
    except* Exception:
        # One batch's defect must not take the others down; the stuck rule shows what repeats.
        log.exception("slice.crashed", batch_id=batch_id, slice=index)
    finally:
        node.at_work.discard((batch_id, index))


class _SliceWork:
    def __init__(
        self, node: Node, held: HeldBatches, batch: HeldBatch, lease: Lease, workers: Workers
    ) -> None:
        self._node = node
        self._held = held
        self._batch = batch
        self._lease = lease
        self._workers = workers
        self._index = lease.work.slice_index
        self._slots = batch.spec.slots(self._index)
        self._cause = batch.started_id
        self._writer = SliceWriter(
            node.event_log,
            batch.batch_id,
            self._index,
            lambda: node.stamp(self._cause),
            node.tally,
            node.fullness,
            InFlight(partial(foreseen, batch, self._index)),
        )
        self._claim = Claim(node, batch, self._writer, lease, self._slots)

    async def run(self) -> None:
        """Claim, fill, finish; the lease is kept until then."""
        async with asyncio.TaskGroup() as tasks:
            beats = tasks.create_task(self._keep_lease())
            try:
                await self._work()
            except* (LogError, LeaseLostError):
                raise
            except* Exception as group:
                await self._drop(_leaves(group))
                raise
            beats.cancel()

    async def _work(self) -> None:
        if self._batch.standing in {"paused", "over"}:
            await self._held.refresh(self._batch)  # it may have been resumed
            if self._batch.standing in {"paused", "over"}:
                await self._lease.done()
                return
        self._batch.come_to(self._node.gates)
        match await self._claim.take():
            case "claimed":
                subject = subjects.at_work(
                    self._node.settings.node, self._batch.batch_id, self._index
                )
                async with heard(self._node.event_log.connection, subject):
                    await self._work_as_holder()
            case "ungranted":
                await self._lease.give_back(UNGRANTED_S)
            case "done":
                await self._lease.done()
            case "unknown":
                await self._lease.give_back(HERE_S)
            case "at_work":
                return  # the message is its holder's again: it is kept by that one's beats

    async def _work_as_holder(self) -> None:
        self._cause = self._writer.last_id
        await self._held.refresh(self._batch)
        lost: BaseException | None = None
        try:
            await self._claim.judge()
            await self._fill()
        except* LeaseLostError as group:
            lost = group.exceptions[0]
        except* FatalError as group:
            await self._fail_batch(group)
        if lost is None:
            await self._finish()
        else:
            log.info(
                "lease.lost", batch_id=self._batch.batch_id, slice=self._index, reason=str(lost)
            )

    async def _fill(self) -> None:
        left = slices.open_offsets(self._writer.state, len(self._slots))
        workers = (
            1 if self._claim.is_trial else min(slices.parallel_calls(self._batch.spec), len(left))
        )
        before_call = self._alone if self._claim.is_trial else self._as_held
        self._workers.resize(workers)
        self._writer.in_flight.most = workers
        offsets = iter(left)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(workers):
                tasks.create_task(self._fill_slots(offsets, before_call))

    async def _fill_slots(
        self,
        offsets: Iterator[int],
        before_call: Callable[[int], Callable[[], Awaitable[None]]],
    ) -> None:
        for offset in offsets:
            slot = SlotWork(self._node, self._batch, self._writer, self._slots[0] + offset, offset)
            if not await slot.fill(before_call(offset)):
                break
        self._workers.end_one()
        self._writer.in_flight.most -= 1

    def _as_held(self, _offset: int) -> Callable[[], Awaitable[None]]:
        """Return what must be true before each call of a slot."""
        return self._still_held

    def _alone(self, offset: int) -> Callable[[], Awaitable[None]]:
        """Return the same for a slot of a slice that nodes died on: the log names it first."""

        async def wait() -> None:
            await self._still_held()
            if self._may_go_on and self._writer.state.on_trial != offset:
                await self._writer.record(steps.on_trial(self._slots[offset], offset))

        return wait

    async def _still_held(self) -> None:
        """Return when the lease is ours, or when no call may start anyway.

        After a freeze longer than the lease another node may hold the slice: its claim is in the
        tail, and a beat alone would not tell. An outage of the log is waited out here, since
        answers of the same slice may wait for it too.

        Raises:
            LeaseLostError: another node claimed the slice.
        """
        if self._is_granted and not self._lease.is_held(self._lease_s):
            self._writer.allowance.close()
            return
        with contextlib.suppress(LogUnavailableError):  # an outage is seen to below
            await self._held.refresh_if_old(self._batch)
        while not self._lease.is_held(self._node.settings.lease_s) and self._may_go_on:
            try:
                await self._lease.beat()
                await self._writer.confirm()
            except LogUnavailableError as error:
                log.warning("lease.in_doubt", slice=self._index, reason=str(error))
                await asyncio.sleep(AWAY_S)

    @property
    def _is_granted(self) -> bool:
        """Whether calls need a grant, which is lost together with the lease."""
        return self._batch.spec.budgets.bounds_calls

    @property
    def _lease_s(self) -> float:
        lease_s = self._node.settings.lease_s
        return min(lease_s, GRANTED_LEASE_S) if self._is_granted else lease_s

    @property
    def _may_go_on(self) -> bool:
        return self._batch.may_call and not self._node.stop.is_set()

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            try:
                await self._lease.beat()
            except LogUnavailableError as error:
                log.warning("lease.beat_missed", slice=self._index, reason=str(error))

    async def _finish(self) -> None:
        """Give the lease up in the way that fits why the work ended."""
        if self._batch.standing == "draining" and not self._writer.state.closed:
            with contextlib.suppress(LeaseLostError):  # the stop fence was there first
                await self._writer.record(steps.closed(len(self._slots)))
        standing = self._batch.standing
        is_over = standing not in {"active", "paused"}
        if is_over or slices.is_done(self._writer.state, len(self._slots)):
            if is_over:
                await self._let_go()
            await self._lease.done()
            fault_point(self._node.settings, "slice-done")
            return
        try:
            await self._writer.record(steps.released(self._reason))
        except LeaseLostError:  # whoever wrote to it since has the slice's message too
            return
        if standing == "active":
            await self._lease.give_back(GRANT_S if self._writer.allowance.is_used_up else 0.0)
        else:
            await self._lease.done()

    async def _drop(self, broken: Sequence[BaseException]) -> None:
        """Tell that the work broke off: a slot that does that each time is found like a deadly one.

        The calls whose work that was have no event; each of ``broken`` may have ended one.
        """
        if self._writer.last_id:  # else nothing was claimed yet
            self._writer.lose_calls(len(broken))
            words = safe_message(f"{type(broken[0]).__name__}: {broken[0]}")
            with contextlib.suppress(LeaseLostError):
                await self._writer.record(steps.dropped(f"the work on it broke off with {words}"))

    async def _let_go(self) -> None:
        """Tell a stop that no call is in flight here; one that was first has counted them."""
        if not slices.is_done(self._writer.state, len(self._slots)):
            with contextlib.suppress(LeaseLostError):
                await self._writer.record(steps.released("the batch ends"))

    @property
    def _reason(self) -> str:
        """Why the slice is given up though something is left to do in it."""
        if self._node.stop.is_set():
            return "the node leaves"
        if self._writer.allowance.is_used_up:
            return "the granted calls are used up"
        return "the batch was paused"

    async def _fail_batch(self, group: ExceptionGroup[FatalError]) -> None:
        first = _leaves(group)[0]
        error = ErrorInfo(category=first.category, message=first.message)  # type: ignore[attr-defined]
        node, batch_id = self._node, self._batch.batch_id
        log.error("batch.failing", batch_id=batch_id, category=error.category, reason=error.message)
        stamper = node.stamper(self._cause)
        await append_decision(
            node.event_log, batch_id, lambda state, stamp: fail(state, error, stamp), stamper
        )
        await self._let_go()
        await run_stop_fence(node.event_log, batch_id, stamper)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """Return the exceptions that a group is made of."""
    found: list[BaseException] = []
    for one in group.exceptions:
        found += _leaves(one) if isinstance(one, BaseExceptionGroup) else [one]
    return found
