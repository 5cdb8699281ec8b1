"""The generator process: take leases while there is room, work on them, leave in order."""

import asyncio
import contextlib
from collections.abc import Iterable

import structlog

from millstream.errors import LogError
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.eventlog.presence import Presence
from millstream.eventlog.topology import ensure_topology
from millstream.runtime.clock import boot_seconds
from millstream.runtime.metrics_server import metrics_served
from millstream.runtime.settings import Settings
from millstream_generator.deadlines import Deadlines
from millstream_generator.dispatcher import Dispatcher
from millstream_generator.held import HeldBatches
from millstream_generator.intake import Intake
from millstream_generator.limited import LimitSignal
from millstream_generator.node import Node, Provider
from millstream_generator.route_notes import RouteNotes
from millstream_schemas.answers import NodeBeat

log = structlog.get_logger()

SERVICE = "generator"
FINISH_S = 1.5
"""How long calls in flight may finish after SIGTERM before they are cancelled."""
GIVE_UP_S = 1.5
"""How long the last answers and leases may take to be stored and given back after that."""


async def main(settings: Settings, provider: Provider, stop: asyncio.Event) -> None:
    """Generate until ``stop``; calls in flight then get a moment, and leases are given back.

    Raises:
        NameTakenError: another generator lives under this one's name, or has taken it over.
    """
    async with connected(settings, SERVICE) as connection:
        await ensure_topology(connection, settings, takes_work=True)
        event_log = EventLog(connection)
        node = Node(settings, event_log, provider, stop)
        held = HeldBatches(event_log)
        presence = Presence(event_log, lambda: _beat(node), node.beats)
        await presence.take(stop)
        await node.fullness.look()
        async with (
            metrics_served(settings, node.figures, node.ready),
            asyncio.TaskGroup() as background,
        ):
            watches = [
                background.create_task(held.listen()),
                background.create_task(node.gates.run()),
                background.create_task(node.fullness.watch(stop)),
                background.create_task(RouteNotes(node, held).run()),
                background.create_task(LimitSignal(node, held).run()),
                background.create_task(Deadlines(node, held).run()),
                background.create_task(presence.keep()),
            ]
            async with asyncio.TaskGroup() as tasks:
                work = [
                    tasks.create_task(Intake(node, held).run()),
                    tasks.create_task(Dispatcher(node).run()),
                ]
                watches.append(background.create_task(_end_in_time(held, stop, work)))
                log.info("generator.ready", concurrency=settings.node_concurrency)
            for watch in watches:
                watch.cancel()
        if connection.is_connected:
            with contextlib.suppress(LogError):  # beat and permits age out by themselves
                await presence.leave()
                await node.gates.leave()


def _beat(node: Node) -> NodeBeat:
    return NodeBeat(
        node=node.settings.node,
        service=SERVICE,
        pool=node.settings.pool,
        in_flight=node.in_flight,
        started_at=node.started_at,
        up_s=round(boot_seconds() - node.began_s, 3),
        note=node.fullness.note,
        clock_ahead_s=node.event_log.time.clock_ahead_s(),
        is_full=not node.room.free,
        routes=node.gates.health(),
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
