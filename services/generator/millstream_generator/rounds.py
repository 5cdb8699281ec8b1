"""The leading dispatcher's rounds: what no event tells of is found by looking again and again."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import structlog

from millstream.domain.batch_state import BatchState
from millstream.errors import LogError
from millstream.eventlog.live import LiveBatches
from millstream.eventlog.topology import ensure_topology
from millstream.eventlog.work import WorkQueue
from millstream.runtime.clock import boot_seconds
from millstream.runtime.own_time import own_time
from millstream_generator.grants import Purse
from millstream_generator.holders import Holders
from millstream_generator.node import Node
from millstream_generator.windows import Window

log = structlog.get_logger()

RETRY_S = 1.0
RECONCILE_S = 3.0
RECONCILE_SHARE = 0.02
RESCUE_S = 1.0
RESCUE_SHARE = 0.1
"""The most of its time that the dispatcher spends on looking at everything, and for the dead."""
PAUSE_MOST_S = 5.0
"""However long a round waited: a slow server must cost no rescue."""
OWN_SHARE = 0.05
"""The most of a processor's time that a round takes: where a hundred thousand batches live, each
look costs seconds."""


@dataclass(slots=True)
class Tended:
    """What the leading dispatcher keeps of a live batch."""

    window: Window
    purse: Purse | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    fence: asyncio.Task[None] | None = None


class Rounds:
    """Two rounds side by side: a thorough one over everything, and a quick one for the dead."""

    def __init__(
        self,
        node: Node,
        live: LiveBatches,
        tended_of: Callable[[BatchState], Tended],
        tend: Callable[[Iterable[str]], Awaitable[None]],
    ) -> None:
        self._node = node
        self._log = node.event_log
        self._work = WorkQueue(node.event_log.answers)
        self._live = live
        self._tended_of = tended_of
        self._tend = tend
        self._holders = Holders(node.event_log, node.settings.lease_s)
        self._grantees = Holders(node.event_log, node.settings.lease_s)

    async def keep(self) -> None:
        """Look at every live batch once in a while, also when no event comes; never ends."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_reconciling())
            tasks.create_task(self._keep_rescuing())

    async def _keep_reconciling(self) -> None:
        while True:
            began = boot_seconds()
            is_done, own_s = await own_time(self.reconcile())
            pause_s = pause_after(boot_seconds() - began, own_s, RECONCILE_S, RECONCILE_SHARE)
            await asyncio.sleep(pause_s if is_done else RETRY_S)

    async def reconcile(self) -> bool:
        """Queue again what the queue has lost (it is a cache, the log knows what is left).

        What was postponed gets its next round too. Returns whether all was seen to.
        """
        try:
            found = await self._work.all_queued()
            self._holders.begin_round()
            for batch_id in list(self._live.batches):
                if (state := self._live.batches.get(batch_id)) is not None:  # else it has ended
                    await self._match(state, found.get(batch_id, set()))
        except LogError as error:
            log.warning("dispatcher.round_cut_short", reason=str(error))
            with contextlib.suppress(LogError):
                await ensure_topology(self._log.connection, self._node.settings)
            return False
        await self._tend(list(self._live.batches))
        return True

    async def _match(self, state: BatchState, found: set[int]) -> None:
        """Find the slices that nobody works on any more, though the log says that a node does.

        The queue offers those it still has by itself, once the lease has run out.
        """
        tended = self._tended_of(state)
        lost = tended.window.matched(state, found)
        if state.phase != "active":
            return
        abandoned = await self._holders.abandoned(state, lost)
        if tended.purse is not None:
            tended.purse.abandoned = _epochs(state, abandoned)
        for index in abandoned:
            tended.window.is_missing(index)

    async def _keep_rescuing(self) -> None:
        """Look for dead holders of what a budget grants, in rounds that wait for nothing else.

        The queue offers their slices by itself, but they can be claimed only with a new grant.
        """
        while True:
            began = boot_seconds()
            _, own_s = await own_time(self._rescue())
            taken_s = boot_seconds() - began
            await asyncio.sleep(pause_after(taken_s, own_s, RESCUE_S, RESCUE_SHARE))

    async def _rescue(self) -> None:
        try:
            await self._tend(await self._bereft())
        except LogError as error:
            log.warning("dispatcher.rescue_postponed", reason=str(error))

    async def _bereft(self) -> list[str]:
        """Tell the purses whose holders are dead; return the batches that have such slices."""
        found: list[str] = []
        # An outage took everybody's beats: those who live come back first.
        can_tell = self._node.beats.are_unbroken
        if can_tell:
            self._grantees.begin_round()
        for batch_id in list(self._live.batches):
            # Read here, not before the look at another batch: what is held is of this moment, too.
            state = self._live.batches.get(batch_id)
            tended = None if state is None else self._tended_of(state)
            if state is None or tended is None or tended.purse is None or state.phase != "active":
                continue
            held = sorted(tended.window.held) if can_tell else []
            dead = await self._grantees.dead(state, held)
            tended.purse.dead = _epochs(state, dead)
            if dead:
                found.append(batch_id)
        return found


def _epochs(state: BatchState, indices: Iterable[int]) -> dict[int, int]:
    return {index: state.slices[index].state.epoch for index in indices}


def pause_after(taken_s: float, own_s: float, least_s: float, share: float) -> float:
    """Return how long to wait after a round that took ``taken_s``, ``own_s`` of it computing."""
    return max(least_s, min(taken_s / share, PAUSE_MOST_S), own_s / OWN_SHARE)
