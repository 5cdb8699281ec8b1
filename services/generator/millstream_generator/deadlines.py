"""A batch's time, watched by every node that works on it: the dispatcher alone may die at its end.

No call starts once the time is up. The leading dispatcher writes the stop; where none did, whoever
still holds a slice does, and runs the fence: both are compare-and-sets.
"""

import asyncio

import structlog

from millstream.errors import LogError
from millstream.eventlog.aggregate import load_batch
from millstream.eventlog.stop import run_stop_fence
from millstream_generator.budgets import BudgetWatch
from millstream_generator.held import HeldBatch, HeldBatches
from millstream_generator.node import Node

log = structlog.get_logger()

TICK_S = 0.25
LEADER_S = 0.5
"""How long the leading dispatcher has for it, which looks four times a second."""


class Deadlines:
    """Ends the batches that this node works on when their time is up."""

    def __init__(self, node: Node, held: HeldBatches) -> None:
        self._node = node
        self._held = held
        self._budgets = BudgetWatch(node)

    async def run(self) -> None:
        """Look until cancelled; what the log refuses is tried again."""
        while True:
            await asyncio.sleep(TICK_S)
            for batch in self._held.working():
                if batch.standing == "active" and batch.is_past(batch.ends_at + LEADER_S):
                    await self._end(batch)

    async def _end(self, batch: HeldBatch) -> None:
        batch_id = batch.batch_id
        try:
            state = await load_batch(self._node.event_log, batch_id, slices=False)
            if await self._budgets.look(state, state.sequence, None):
                await self._held.refresh(batch)
                stamper = self._node.stamper(batch.started_id)
                await run_stop_fence(self._node.event_log, batch_id, stamper)
        except LogError as error:
            log.warning("deadline.postponed", batch_id=batch_id, reason=str(error))
