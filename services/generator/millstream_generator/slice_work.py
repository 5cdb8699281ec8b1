"""One lease: claim the slice, fill its open slots, give the lease up.

No call starts before the claim is stored, control is read after it, and the lease is held.
"""

import asyncio
import contextlib
from collections.abc import Iterator

import structlog

from millstream.domain import slice as slices
from millstream.domain.decide import fail
from millstream.errors import LogError, LogUnavailableError
from millstream.eventlog.aggregate import append_decision
from millstream.eventlog.stop import run_stop_fence
from millstream.eventlog.work import Lease
from millstream.runtime.lifecycle import fault_point
from millstream_generator import steps
from millstream_generator.held import HeldBatch, HeldBatches
from millstream_generator.node import Node
from millstream_generator.slot_work import FatalError, SlotWork
from millstream_generator.writer import LeaseLostError, SliceWriter
from millstream_schemas.control import BatchSpec
from millstream_schemas.errors import ErrorInfo

log = structlog.get_logger()

CLAIMS_MOST = 5
SLICES_AT_ONCE = 16
AWAY_S = 0.25


def parallel_calls(spec: BatchSpec) -> int:
    """Return the calls in flight per slice: about 16 slices at once share the concurrency.

    Slices with fewer slots than that are more at once instead, so that small batches use their
    whole concurrency too.
    """
    return min(spec.slice_size, -(-spec.concurrency // SLICES_AT_ONCE))


def window(spec: BatchSpec) -> int:
    """Return how many slices of a batch may be queued or leased at once.

    Times ``parallel_calls`` that never exceeds the batch's concurrency, on any number of nodes.
    """
    return spec.concurrency // parallel_calls(spec)


async def work_on(node: Node, held: HeldBatches, lease: Lease) -> None:
    """Do what can be done of one leased slice; the lease is done or given back at the end."""
    batch_id, index = lease.work.batch_id, lease.work.slice_index
    try:
        async with held.hold(batch_id) as batch:
            if batch is None or index >= batch.spec.slices:
                log.warning("slice.unknown", batch_id=batch_id, slice=index)
                await lease.done()
                return
            await _SliceWork(node, held, batch, lease).run()
    except* (LogError, LeaseLostError) as group:
        # The lease runs out and the slice comes back: to us or to a node that can reach the log.
        log.warning("slice.dropped", batch_id=batch_id, slice=index, reason=repr(group.exceptions))
    except* Exception:
        # One batch's defect must not take the others down; the stuck rule shows what repeats.
        log.exception("slice.crashed", batch_id=batch_id, slice=index)


class _SliceWork:
    def __init__(self, node: Node, held: HeldBatches, batch: HeldBatch, lease: Lease) -> None:
        self._node = node
        self._held = held
        self._batch = batch
        self._lease = lease
        self._index = lease.work.slice_index
        self._slots = batch.spec.slots(self._index)
        self._cause = batch.started_id
        self._writer = SliceWriter(
            node.event_log, batch.batch_id, self._index, lambda: node.stamp(self._cause)
        )

    async def run(self) -> None:
        """Claim, fill, finish; the lease is kept until then."""
        async with asyncio.TaskGroup() as tasks:
            beats = tasks.create_task(self._keep_lease())
            await self._work()
            beats.cancel()

    async def _work(self) -> None:
        if not await self._claim():
            await self._lease.done()
            return
        await self._held.refresh(self._batch)
        lost: BaseException | None = None
        try:
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

    async def _claim(self) -> bool:
        """Take the slice over; False when nothing is left to do in it."""
        for _ in range(CLAIMS_MOST):
            await self._writer.load()
            state = self._writer.state
            if slices.is_done(state, len(self._slots)):
                return False
            rescue_of = (
                state.node if state.epoch and state.node != self._node.settings.node else None
            )
            try:
                await self._writer.record(steps.claimed(self._node.settings.node, rescue_of))
            except LeaseLostError as error:
                # Most likely the holder before, whose lease ran out, appended once more.
                if not self._lease.is_held(self._node.settings.lease_s):
                    raise LogUnavailableError(
                        f"the lease ran out before its claim: {error}"
                    ) from error
                continue
            self._cause = self._writer.last_id
            return True
        raise LogUnavailableError(f"slice {self._index} is being written by another node")

    async def _fill(self) -> None:
        offsets = iter(slices.open_offsets(self._writer.state, len(self._slots)))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(parallel_calls(self._batch.spec)):
                tasks.create_task(self._fill_slots(offsets, tasks))

    async def _fill_slots(self, offsets: Iterator[int], tasks: asyncio.TaskGroup) -> None:
        for offset in offsets:
            slot = SlotWork(self._node, self._batch, self._writer, self._slots[0] + offset, offset)
            if not await slot.fill(tasks, self._still_held):
                return

    async def _still_held(self) -> None:
        """Return when the lease is ours, or when no call may start anyway.

        After a freeze longer than the lease another node may hold the slice: its claim is in the
        tail, and a beat alone would not tell. An outage of the log is waited out here, since
        answers of the same slice may wait for it too.

        Raises:
            LeaseLostError: another node claimed the slice.
        """
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
    def _may_go_on(self) -> bool:
        return self._batch.may_call and not self._node.stop.is_set()

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(self._node.settings.lease_s / 3)
            try:
                await self._lease.beat()
            except LogUnavailableError as error:
                log.warning("lease.beat_missed", slice=self._index, reason=str(error))

    async def _finish(self) -> None:
        """Give the lease up in the way that fits why the work ended."""
        if self._batch.standing == "draining" and not self._writer.state.closed:
            with contextlib.suppress(LeaseLostError):  # the stop fence was there first
                await self._writer.record(steps.closed(len(self._slots)))
        is_done = slices.is_done(self._writer.state, len(self._slots))
        if not is_done and self._batch.standing == "active":
            # The node leaves, or the batch was resumed while the last calls before it finished.
            await self._lease.give_back()
            return
        await self._lease.done()
        fault_point(self._node.settings, "slice-done")

    async def _fail_batch(self, group: ExceptionGroup[FatalError]) -> None:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        error = ErrorInfo(category=first.category, message=first.message)  # type: ignore[attr-defined]
        node, batch_id = self._node, self._batch.batch_id
        log.error("batch.failing", batch_id=batch_id, category=error.category, reason=error.message)
        stamper = node.stamper(self._cause)
        await append_decision(
            node.event_log, batch_id, lambda state, stamp: fail(state, error, stamp), stamper
        )
        await run_stop_fence(node.event_log, batch_id, stamper)
