"""Claiming a leased slice, and the poison rule: a slot that nodes die of must not take them all.

After the third rescue without an outcome the slice's slots run one at a time. The slot that runs
is named in the log first; if its node dies too, whoever claims next gives that slot up.
"""

from typing import Literal

import structlog

from millstream.domain import slice as slices
from millstream.errors import LogUnavailableError
from millstream.eventlog.work import Lease
from millstream_generator import steps
from millstream_generator.allowance import Allowance
from millstream_generator.grants import Ledgers
from millstream_generator.held import HeldBatch
from millstream_generator.holders import Whereabouts, whereabouts
from millstream_generator.node import Node
from millstream_generator.steps import Attempt
from millstream_generator.writer import LeaseLostError, SliceWriter
from millstream_schemas.errors import ErrorInfo
from millstream_schemas.slices import SliceState

log = structlog.get_logger()

CLAIMS_MOST = 5

Claimed = Literal["claimed", "done", "ungranted", "at_work", "unknown"]
"""The slice is ours; nothing is left to do in it; no budget is granted to this claim; its holder
lives and works on it; its holder is silent and may live."""


class Claim:
    """The claim of one leased slice."""

    def __init__(
        self, node: Node, batch: HeldBatch, writer: SliceWriter, lease: Lease, slots: range
    ) -> None:
        self._node = node
        self._batch = batch
        self._writer = writer
        self._lease = lease
        self._slots = slots
        self._ledgers = Ledgers(node.event_log.answers)

    @property
    def is_trial(self) -> bool:
        """Whether the slots must run one at a time."""
        return slices.is_suspect(self._writer.state)

    async def take(self) -> Claimed:
        """Take the slice over from whoever held it, unless that one may still work on it.

        An outage takes everybody's lease: those who live finish what they hold, and nothing of it
        is paid twice.

        Raises:
            LeaseLostError: another node has claimed it since it was leased to this one.
            LogUnavailableError: the lease ran out before, or others kept writing.
        """
        epoch: int | None = None
        for _ in range(CLAIMS_MOST):
            await self._writer.load()
            before = self._writer.state
            if slices.is_done(before, len(self._slots)):
                return "done"
            if epoch is not None and before.epoch != epoch:
                raise LeaseLostError(f"{self._writer.subject} was claimed by {before.node}")
            epoch = before.epoch
            granted, calls = await self._grant(before)
            if not granted:
                await self._disown(before)
                return "ungranted"
            holder = await self._holder(before)
            match holder:
                case "at_work" | "unknown":
                    return holder
            step = steps.claimed(
                self._node.settings.node,
                rescue_of=before.node or None,
                holder_lives=None if holder is None else holder == "dropped",
                at_risk=self._at_risk(before),
                allowance=calls,
            )
            try:
                await self._writer.record(step)
            except LeaseLostError as error:
                # Most likely the holder before, whose lease ran out, appended once more.
                if not self._lease.is_held(self._node.settings.lease_s):
                    raise LogUnavailableError(
                        f"the lease ran out before its claim: {error}"
                    ) from error
                continue
            self._writer.allowance = Allowance(calls)
            return "claimed"
        raise LogUnavailableError(f"{self._writer.subject} is being written by another node")

    async def _grant(self, before: SliceState) -> tuple[bool, int | None]:
        """Return whether this claim may be made, and how many calls its lease may start."""
        if not self._batch.spec.budgets.bounds_calls:
            return True, None
        grant = await self._ledgers.granted(self._batch.batch_id, self._lease.work.slice_index)
        if grant is None or not grant.is_for(before.epoch, self._writer.sequence):
            return False, None
        return True, grant.calls

    async def _disown(self, before: SliceState) -> None:
        """Give up what this process has by the log, though it does not work on it any more.

        An outage took its lease. Nobody else would ever be granted the slice: to others its
        holder seems alive. What an earlier process of the same name left, it died at.
        """
        is_own = before.node == self._node.settings.node
        if is_own and self._writer.written_at >= self._node.started_at:
            step = steps.released("its lease was lost", at_risk=self._at_risk(before))
            await self._writer.record(step)

    async def _holder(self, before: SliceState) -> Whereabouts | None:
        """Tell what has become of the holder before; None when there was none."""
        if not before.node:
            return None
        work = self._lease.work
        return await whereabouts(
            self._node, (work.batch_id, work.slice_index), before.node, self._writer.written_at
        )

    def _at_risk(self, before: SliceState) -> int:
        """Return the most calls that the holder before may have had in flight."""
        most = slices.parallel_calls(self._batch.spec)
        return slices.at_risk(before, len(self._slots), most)

    async def judge(self) -> None:
        """Give up the slot that ran alone when the node before died; raises as ``record``."""
        state = self._writer.state
        offset = state.on_trial
        if offset is None:
            return
        slot = self._slots[offset]
        died = state.barren_claims - 1
        error = ErrorInfo(
            category="server",
            message=f"{died} nodes died or broke off at work on this slice, the last while this "
            "slot ran alone; look at its prompt and at what the model answers to it",
            slot=slot,
        )
        log.error("slot.poisonous", batch_id=self._batch.batch_id, slot=slot, nodes=died)
        number = state.attempts.get(str(offset), 0) + 1
        attempt = Attempt(
            slot, offset, number, self._batch.plan.cell(slot), self._batch.spec.routes[0], None
        )
        await self._writer.record(steps.failed(attempt, error))
