"""The intake: lease slices while the node has room, by the weights of their classes."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import structlog

from millstream.errors import LogError, LogUnavailableError
from millstream.eventlog.topology import ensure_topology
from millstream.eventlog.work import Lease, WorkQueue
from millstream_generator.held import HeldBatches
from millstream_generator.node import Node
from millstream_generator.room import Workers
from millstream_generator.slice_work import work_on
from millstream_generator.weights import TOGETHER, Shares
from millstream_schemas.subjects import PRIORITIES, Priority

log = structlog.get_logger()

AWAY_S = 0.5
PROBE_S = 0.2
"""How often a node whose calls are all taken looks for batches that have none of them."""
BEHIND_S = 3 * PROBE_S
"""How long the head of a long line stays away after such a look: the next ones see further."""
LEASES_PER_CALL = 4
"""Most leases, for each call that the node may have in flight: slices that rest need beats too."""


class Intake:
    """Leases slices of all classes of the node's pool.

    A class that had nothing waits on the server for its next slice, outside the weighted turns.
    """

    def __init__(self, node: Node, held: HeldBatches) -> None:
        self._node = node
        self._held = held
        self._pool = node.settings.pool
        self._work = WorkQueue(node.event_log.answers)
        self._leases_most = LEASES_PER_CALL * node.settings.node_concurrency
        self._shares = Shares()
        self._waiting: set[Priority] = set()
        self._arrived = asyncio.Event()
        # How many workers the last slice of a class had: what the next one is likely to have.
        self._workers: dict[str, int] = dict.fromkeys(PRIORITIES, node.settings.node_concurrency)

    async def run(self) -> None:
        """Lease and work until the node stops; returns when all slices are given up."""
        async with asyncio.TaskGroup() as tasks:
            while not self._node.stop.is_set():
                ready = [priority for priority in PRIORITIES if priority not in self._waiting]
                if not ready:
                    await self._or_stop(self._arrived.wait())
                    self._arrived.clear()
                elif not self._has_room:
                    await self._or_stop(self._wait_for_room())
                    if not self._node.room.free and not self._node.stop.is_set():
                        await self._probe(ready, tasks)
                else:
                    await self._turn(ready, tasks)

    @property
    def _has_room(self) -> bool:
        # A claim takes room in the store too, which is kept for ends once no call starts.
        room = self._node.room
        return not self._node.is_held_up and room.free > 0 and room.leases < self._leases_most

    async def _turn(self, ready: list[Priority], tasks: asyncio.TaskGroup) -> None:
        """Take slices of the class whose turn it is."""
        priority, most = self._shares.next(ready)
        most = min(most, max(1, self._node.room.free // self._workers[priority]))
        leases: list[Lease] = []
        try:
            leases = await self._work.take(self._pool, priority, most)
        except LogUnavailableError as error:
            await self._mend(priority, error)
        for lease in leases:
            self._begin(lease, tasks)
        if len(leases) < most and not self._node.stop.is_set():
            self._waiting.add(priority)
            tasks.create_task(self._wait_for_work(priority, tasks))

    async def _wait_for_room(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROBE_S):
                while not self._has_room:
                    await self._node.room.wait_freed()

    async def _probe(self, ready: list[Priority], tasks: asyncio.TaskGroup) -> None:
        """Without room, let in those batches that have less than an equal share of it.

        Else a batch of long slices would keep a small one out until one of them ends.
        """
        with contextlib.suppress(LogUnavailableError):  # the next turn sees to it
            for priority in ready:
                leases = await self._work.take(self._pool, priority, TOGETHER)
                await self._let_in(leases, tasks)

    async def _let_in(self, leases: list[Lease], tasks: asyncio.TaskGroup) -> None:
        """Begin the slices whose batches are owed them; give the others back.

        The whole of a short line is seen at once and goes back at once, else its class would look
        empty to whoever has room meanwhile. Of a longer one the next look sees what comes behind.
        """
        delay_s = BEHIND_S if len(leases) == TOGETHER else 0.0
        async with asyncio.TaskGroup() as returns:
            for lease in leases:
                if self._node.room.owes(lease.work, lease.size.calls):
                    self._begin(lease, tasks)
                else:
                    returns.create_task(self._return(lease, delay_s))

    async def _return(self, lease: Lease, delay_s: float) -> None:
        with contextlib.suppress(LogUnavailableError):  # it runs out by itself
            await lease.give_back(delay_s)

    async def _wait_for_work(self, priority: Priority, tasks: asyncio.TaskGroup) -> None:
        """Wait for the next slice of a class that has none now, as long as there is room."""
        lease: Lease | None = None
        while lease is None and self._has_room and not self._node.stop.is_set():
            try:
                lease = await self._work.lease(self._pool, priority)
            except LogUnavailableError as error:
                await self._mend(priority, error)
        if lease is not None:
            self._begin(lease, tasks)
        self._waiting.discard(priority)
        self._arrived.set()

    def _begin(self, lease: Lease, tasks: asyncio.TaskGroup) -> None:
        self._workers[lease.work.priority] = lease.size.calls
        self._shares.pulled(lease.work.priority, lease.size.slots)
        tasks.create_task(self._work_on(lease, self._workers_of(lease)))

    def _workers_of(self, lease: Lease) -> Workers:
        return Workers(self._node.room, lease.work, lease.size.calls)

    async def _work_on(self, lease: Lease, workers: Workers) -> None:
        try:
            if self._node.stop.is_set():
                await self._return(lease, 0.0)
            else:
                await work_on(self._node, self._held, lease, workers)
        finally:
            workers.close()

    async def _mend(self, priority: Priority, error: LogUnavailableError) -> None:
        """Make the queue anew in case it is gone: it is a cache, and this pool's lines are ours."""
        log.warning("work.unavailable", priority=priority, reason=str(error))
        await self._or_stop(self._make_anew())

    async def _make_anew(self) -> None:
        await asyncio.sleep(AWAY_S)
        try:
            await ensure_topology(
                self._node.event_log.connection, self._node.settings, takes_work=True
            )
        except LogError as error:
            log.debug("work.still_unavailable", reason=str(error))

    async def _or_stop(self, wait: Coroutine[Any, Any, Any]) -> None:
        """Return when ``wait`` does, or when the node stops."""
        async with asyncio.TaskGroup() as tasks:
            waits = [tasks.create_task(wait), tasks.create_task(self._node.stop.wait())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in waits:
                task.cancel()
