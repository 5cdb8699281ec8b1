"""A projector that knows less of the log than another leaves the questions to it."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from millstream.eventlog.nodes import Nodes
from millstream.runtime.clock import boot_seconds, utc_now
from millstream.testing.asking import ask, is_answered
from millstream.testing.nats import RunningLog, fill_stream
from millstream.testing.waiting import BOUND_S
from millstream_projector.__main__ import main
from millstream_projector.group import Group
from millstream_projector.progress import CURRENT_LAG_S, Progress
from millstream_schemas import subjects
from millstream_schemas.answers import NodeBeat

pytestmark = pytest.mark.anyio

SUBJECT = subjects.query("asked")


def beat(node: str, sequence: int) -> NodeBeat:
    return NodeBeat(node=node, service="projector", started_at=utc_now(), sequence=sequence)


class Member:
    """One of the group."""

    def __init__(self, running: RunningLog, checkpoint: int) -> None:
        self.nodes = Nodes(running.event_log.answers)
        self.progress = Progress(checkpoint, now_s=boot_seconds())
        self.group = Group(running.connection, self.progress, self.nodes, node="own")

    async def take(self, message: Msg) -> None:
        await message.respond(message.data)

    async def takes(self) -> bool:
        """Ask the group, of which nobody else takes anything."""
        await self.group.decide()
        try:
            await self.group.connection.request(SUBJECT, b"question", timeout=10)
        except NoRespondersError:
            return False
        return True


async def test_one_that_is_behind_another_takes_nothing_until_it_is_level(
    running: RunningLog,
) -> None:
    member = Member(running, 5)
    await member.nodes.beat(beat("own", 20))  # what the one before it under this name said
    await member.group.serve(SUBJECT, member.take)
    member.progress.saw_head(10, boot_seconds())
    assert await member.takes()
    await member.nodes.beat(beat("other", 9))
    assert not await member.takes()
    await member.progress.reach(10)
    assert await member.takes()


async def test_one_that_falls_behind_leaves_and_of_two_the_farther_one_stays(
    running: RunningLog,
) -> None:
    member = Member(running, 10)
    await member.group.serve(SUBJECT, member.take)
    long_ago = boot_seconds() - 2 * CURRENT_LAG_S
    member.progress.saw_head(10, long_ago)
    member.progress.lag_s(long_ago)
    member.progress.saw_head(50, long_ago + 1)
    await member.nodes.beat(beat("other", 9))
    assert await member.takes()
    await member.nodes.beat(beat("other", 11))
    assert not await member.takes()
    await member.nodes.leave("projector", "other")
    assert await member.takes()


async def test_one_that_left_while_the_server_was_frozen_takes_nothing_when_it_is_back(
    running: RunningLog,
) -> None:
    member = Member(running, 10)
    member.progress.saw_head(10, boot_seconds())
    await member.group.serve(SUBJECT, member.take)
    os.kill(running.server.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, running.server.pid, os.WSTOPPED | os.WNOWAIT)
    await member.group.leave(SUBJECT)
    await running.restart()
    async with asyncio.timeout(BOUND_S):
        while not running.connection.is_connected:
            await asyncio.sleep(0.02)
    assert not await member.takes()


async def test_a_new_projector_answers_nothing_old_while_it_catches_up(
    running: RunningLog, tmp_path: Path
) -> None:
    await fill_stream(running.event_log, 6000)
    nodes, stop = Nodes(running.event_log.answers), asyncio.Event()

    async def sequences() -> dict[str, int]:
        return {beat.node: beat.sequence for beat in await nodes.live()}

    async with asyncio.TaskGroup() as tasks, asyncio.timeout(BOUND_S):
        for node in ("first", "second"):
            settings = running.settings.model_copy(
                update={"node": node, "data_dir": tmp_path / node}
            )
            tasks.create_task(main(settings, stop))
            try:
                if node == "first":
                    while not await is_answered(running.event_log):
                        await asyncio.sleep(0.05)
                    await ask(running.event_log, "history", min_sequence=6000)
                    while (await sequences()).get("first") != 6000:
                        await asyncio.sleep(0.05)
                    continue
                answered = []
                while (await sequences()).get("second") != 6000:
                    answered.append((await ask(running.event_log, "history")).as_of)
            except BaseException:
                stop.set()
                raise
        stop.set()
    assert set(answered) == {6000}
