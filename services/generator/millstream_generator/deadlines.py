"""A batch's time and its share of failures, watched by every node that works on it.

The dispatcher alone may be frozen or die just then. No call starts once the time is up. The
leading dispatcher writes the stop; where none did, whoever still holds a slice does, and runs the
fence: both are compare-and-sets.
"""

import asyncio

import structlog

from millstream.errors import LogError
from millstream.eventlog.aggregate import load_batch
from millstream.eventlog.stop import run_stop_fence
from millstream.runtime.clock import boot_seconds
from millstream_generator.budgets import BudgetWatch
from millstream_generator.held import HeldBatch, HeldBatches
from millstream_generator.node import Node
from millstream_generator.own_outcomes import LEADER_S

log = structlog.get_logger()

TICK_S = 0.25


class Deadlines:
    """Ends the batches that this node works on when their time is up or too many slots failed."""

    def __init__(self, node: Node, held: HeldBatches) -> None:
        self._node = node
        self._held = held
        self._budgets = BudgetWatch(node)

    async def run(self) -> None:
        """Look until cancelled; what the log refuses is tried again."""
        while True:
            await asyncio.sleep(TICK_S)
            for batch in self._held.working():
                if batch.standing != "active":
                    continue
                if batch.is_past(batch.ends_at + LEADER_S):
                    await self._end(batch, slices=False)
                elif batch.own.is_look_due:
                    began = boot_seconds()
                    await self._end(batch, slices=True)
                    batch.own.looked(began)

    async def _end(self, batch: HeldBatch, *, slices: bool) -> None:
        """End the batch if a budget says so; ``slices``: one that counts outcomes may, too."""
        batch_id = batch.batch_id
        try:
            state = await load_batch(self._node.event_log, batch_id, slices=slices)
            if await self._budgets.look(state, state.sequence, None):
                await self._held.refresh(batch)
                stamper = self._node.stamper(batch.started_id)
                await run_stop_fence(self._node.event_log, batch_id, stamper)
        except LogError as error:
            log.warning("deadline.postponed", batch_id=batch_id, reason=str(error))
