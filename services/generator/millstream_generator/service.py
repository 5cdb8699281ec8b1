"""The generator process: take leases while there is room, work on them, leave in order."""

import asyncio
import contextlib
from collections.abc import Iterable

import structlog

from millstream.errors import LogError, LogUnavailableError
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.eventlog.nodes import NodeBeat, Nodes, keep_beating
from millstream.eventlog.topology import ensure_topology
from millstream.eventlog.work import Lease, WorkQueue
from millstream.runtime.settings import Settings
from millstream_generator.dispatcher import Dispatcher
from millstream_generator.held import HeldBatches
from millstream_generator.node import Node, Provider
from millstream_generator.slice_work import work_on
from millstream_schemas import subjects
from millstream_schemas.subjects import Priority

log = structlog.get_logger()

SERVICE = "generator"
FINISH_S = 1.5
"""How long calls in flight may finish after SIGTERM before they are cancelled."""
GIVE_UP_S = 1.5
"""How long the last answers and leases may take to be stored and given back after that."""
AWAY_S = 0.5


async def main(settings: Settings, provider: Provider, stop: asyncio.Event) -> None:
    """Generate until ``stop``; calls in flight then get a moment, and leases are given back."""
    async with connected(settings, SERVICE) as connection:
        await ensure_topology(connection, settings)
        event_log = EventLog(connection)
        node = Node(settings, event_log, provider, stop)
        held = HeldBatches(event_log)
        nodes = Nodes(event_log.answers)
        async with asyncio.TaskGroup() as background:
            watches = [
                background.create_task(held.listen()),
                background.create_task(keep_beating(nodes, stop, lambda: _beat(node))),
            ]
            async with asyncio.TaskGroup() as tasks:
                intakes = (_Intake(node, held, priority) for priority in subjects.PRIORITIES)
                work = [tasks.create_task(intake.run()) for intake in intakes]
                work.append(tasks.create_task(Dispatcher(node).run()))
                watches.append(background.create_task(_end_in_time(held, stop, work)))
                log.info("generator.ready", concurrency=settings.node_concurrency)
            for watch in watches:
                watch.cancel()
        if connection.is_connected:
            with contextlib.suppress(LogError):  # the beat ages out by itself
                await nodes.leave(SERVICE, settings.node)


def _beat(node: Node) -> NodeBeat:
    return NodeBeat(
        node=node.settings.node,
        service=SERVICE,
        pool=node.settings.pool,
        in_flight=node.in_flight,
        started_at=node.started_at,
    )


async def _end_in_time(
    held: HeldBatches, stop: asyncio.Event, work: Iterable[asyncio.Task[None]]
) -> None:
    """Cancel calls some time after ``stop``, and what still waits for the log some time later."""
    await stop.wait()
    await asyncio.sleep(FINISH_S)
    held.cancel_all_calls()
    await asyncio.sleep(GIVE_UP_S)
    log.warning("generator.gave_up", seconds=FINISH_S + GIVE_UP_S)
    for task in work:
        task.cancel()


class _Intake:
    """Leases slices of one priority while the node has room."""

    def __init__(self, node: Node, held: HeldBatches, priority: Priority) -> None:
        self._node = node
        self._held = held
        self._priority = priority
        self._work = WorkQueue(node.event_log.answers)
        # A slice has at least one call, so more slices than calls would only wait.
        self._room = asyncio.Semaphore(node.settings.node_concurrency)

    async def run(self) -> None:
        """Lease and work until the node stops; returns when all slices are given up."""
        stop = self._node.stop
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                await self._room.acquire()
                lease = await self._lease()
                if lease is None:
                    self._room.release()
                elif stop.is_set():
                    with contextlib.suppress(LogUnavailableError):  # it runs out by itself
                        await lease.give_back()
                else:
                    tasks.create_task(self._work_on(lease))

    async def _work_on(self, lease: Lease) -> None:
        try:
            await work_on(self._node, self._held, lease)
        finally:
            self._room.release()

    async def _lease(self) -> Lease | None:
        try:
            return await self._work.lease(self._node.settings.pool, self._priority)
        except LogUnavailableError as error:
            log.warning("work.unavailable", priority=self._priority, reason=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AWAY_S):
                    await self._node.stop.wait()
            return None
