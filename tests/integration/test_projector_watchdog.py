"""The watchdog on a real log with a clock of the test's own."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from millstream.errors import LogError
from millstream.eventlog.log_time import LogTime
from millstream.eventlog.nodes import Nodes
from millstream.eventlog.stored import decode
from millstream.runtime.clock import boot_seconds, utc_now
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import RunningLog, everything
from millstream.testing.waiting import BOUND_S, POLL_S
from millstream.testing.wrong_clock import WrongClock
from millstream_projector.opening import open_store
from millstream_projector.progress import Progress
from millstream_projector.projection import Projection
from millstream_projector.store import Store
from millstream_projector.stuck.watchdog import Watchdog
from millstream_schemas import subjects
from millstream_schemas.answers import NodeBeat
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.limited import InLine, LimitedRoute, NodeLimits
from millstream_schemas.notes import StuckCleared, StuckDetected

pytestmark = pytest.mark.anyio


class Turned(LogTime):
    """The log's time, ahead by what the test wishes."""

    ahead_s = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead_s)


class Scene:
    """A batch on a real log, its projection, and a watchdog whose clocks the test turns."""

    def __init__(self, running: RunningLog, store: Store) -> None:
        self.log = running.event_log
        self.log.time = self.time = Turned()
        self.nodes = Nodes(self.log.answers)
        self.script = Script()
        self.projection = Projection(store)
        self.progress = Progress(0, now_s=0.0)
        self.steady_s = 0.0
        self.dog = self.another_dog()

    def another_dog(self) -> Watchdog:
        return Watchdog(
            self.projection,
            self.progress,
            self.log,
            self.nodes,
            node="test",
            floor_s=30.0,
            steady=lambda: self.steady_s,
        )

    async def beat(self) -> None:
        beat = NodeBeat(node="n", service="generator", started_at=utc_now(), up_s=0.0)
        await self.nodes.beat(beat)

    async def publish(self) -> None:
        """Append what the script has written since the last time."""
        done = len([s for s in await everything(self.log) if ".note" not in s.subject])
        for entry in self.script.tape.entries[done:]:
            last = await self.log.last(entry.recorded.event.subject)
            expected = last.sequence if last else 0
            await self.log.append(entry.recorded.event, expected=expected)

    async def fold(self) -> None:
        """Bring the projection to the end of the log."""
        await self.progress.reach(self.projection.advance(await everything(self.log)))
        self.progress.saw_head(self.progress.checkpoint, self.steady_s)

    async def look(self, ahead_s: float) -> list[BatchEvent]:
        self.time.ahead_s = ahead_s
        return await self.dog.look()


@pytest.fixture
async def scene(running: RunningLog, tmp_path: Path) -> AsyncIterator[Scene]:
    store = open_store(tmp_path / "views", stream="s", last_sequence=10**9)
    scene = Scene(running, store)
    await scene.log.head()  # it tells the log's time
    scene.script.start()
    scene.script.claim(0, node="n")
    scene.script.fail_attempt(1, "timeout", "no token for 20 s")
    await scene.publish()
    await scene.fold()
    await scene.beat()
    yield scene
    store.close()


async def test_a_stuck_batch_is_noted_once_and_cleared_when_it_moves(scene: Scene) -> None:
    assert await scene.look(0) == []
    (note,) = await scene.look(40)
    assert isinstance(note, StuckDetected)
    assert (note.finding.rule, note.actor.kind) == ("no_progress", "system")
    rival = scene.another_dog()
    assert await rival.look() == []  # it has not watched long enough
    await scene.fold()
    assert await scene.look(41) == []
    scene.script.generate(0)
    await scene.publish()
    await scene.fold()
    (cleared,) = await scene.look(0)
    assert isinstance(cleared, StuckCleared)
    await scene.fold()
    assert await scene.look(1) == []


async def test_a_batch_without_a_generator_of_its_pool_is_stuck_beside_those_of_another(
    scene: Scene,
) -> None:
    elsewhere = Script(batch_id="batch_1767225600_0000aaaa", spec=example_spec(8, pool="gpu"))
    await scene.log.append(elsewhere.start().event, expected=0)
    await scene.fold()
    assert await scene.look(0) == []
    (note,) = await scene.look(16)
    assert isinstance(note, StuckDetected)
    assert (note.batch_id, note.finding.rule) == (elsewhere.batch_id, "no_worker")
    assert "no generator of pool 'gpu' has lived for 16 s" in note.finding.cause
    assert "`MILLSTREAM_POOL=gpu millstream generator`" in note.finding.suggestion


@pytest.mark.parametrize("off_s", [7200, -7200, 259_200])
async def test_a_wrong_wall_clock_accuses_nobody_and_hides_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, off_s: float
) -> None:
    wall = WrongClock(monkeypatch)
    assert await scene.look(0) == []
    wall.ahead_s = off_s  # in mid-run
    await scene.beat()
    assert await scene.look(1) == []
    scene.dog = scene.another_dog()  # and from its start on
    assert await scene.look(2) == []
    assert await scene.look(28) == []
    (note,) = await scene.look(33)
    assert isinstance(note, StuckDetected)
    assert note.finding.idle_s == pytest.approx(33, abs=10)
    assert abs(note.time - scene.time.now()) < timedelta(seconds=10)
    await scene.fold()
    scene.script.generate(0)
    await scene.publish()
    await scene.fold()
    assert [type(note) for note in await scene.look(0)] == [StuckCleared]


async def test_time_by_which_the_log_is_set_is_held_against_nobody(scene: Scene) -> None:
    assert await scene.look(0) == []
    here_s = boot_seconds()
    scene.time.note(utc_now() + timedelta(hours=2), asked_s=here_s, heard_s=here_s)
    assert await scene.look(0) == []
    assert await scene.look(28) == []
    assert len(await scene.look(31)) == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "calls", "limit": 2, "taken": 2}, "2 of 2 calls in flight"),
        ({"kind": "share", "share": 0.0}, "less than 1% of its usual pace"),
    ],
)
async def test_a_batch_in_line_for_a_limit_is_found_with_the_limit_as_its_cause(
    scene: Scene, fields: dict[str, Any], words: str
) -> None:
    """As its generator says over NATS; the errors of before are no cause then."""
    line = InLine(waiting=4, is_limited=True)
    batches = {scene.script.batch_id: line}
    limited = LimitedRoute(key="k", model="m", batches=batches, **fields)
    word = NodeLimits(node="n", routes=(limited,)).model_dump_json().encode()
    stop, found = asyncio.Event(), None
    assert await scene.look(0) == []
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(scene.dog.watch(stop))
        async with asyncio.timeout(BOUND_S):
            while found is None:
                await scene.log.answers.send(subjects.limited("odd"), b'{"routes": 3}')
                await scene.log.answers.send(subjects.limited("n"), word)
                await scene.beat()
                await asyncio.sleep(POLL_S)
                scene.ahead_s = 40.0  # The first look sees the batch as it is just now.
                found = await scene.log.last(subjects.note(scene.script.batch_id))
        stop.set()
    recorded = decode(found)
    assert recorded is not None
    assert isinstance(recorded.event, StuckDetected)
    assert f"all wait for its route's limit: {words}" in recorded.event.finding.cause


async def test_two_watchdogs_write_one_note(scene: Scene) -> None:
    rival = scene.another_dog()
    assert await scene.look(0) == []
    assert await rival.look() == []
    assert len(await scene.look(40)) == 1
    assert await rival.look() == []  # its fold is old, so the fence refuses it
    notes = [stored for stored in await everything(scene.log) if ".note" in stored.subject]
    assert len(notes) == 1


async def test_nothing_is_judged_while_the_projection_lags(scene: Scene) -> None:
    assert await scene.look(0) == []
    scene.progress.saw_head(scene.progress.checkpoint + 1, 1.0)
    scene.steady_s = 5.0
    assert len(await scene.look(40)) == 1  # five seconds behind is near enough
    await scene.fold()
    scene.progress.saw_head(scene.progress.checkpoint + 1, 6.0)
    scene.script.generate(0)
    await scene.publish()
    scene.steady_s = 11.1
    assert scene.dog.alarm == ""
    assert await scene.look(0) == []
    assert scene.dog.alarm.startswith("the read model is 6 s behind the log (at 4 of 5)")
    scene.steady_s = 12.0
    await scene.fold()
    assert [type(note) for note in await scene.look(0)] == [StuckCleared]
    assert scene.dog.alarm == ""


async def test_a_generator_that_comes_back_gets_its_time(scene: Scene) -> None:
    await scene.nodes.leave("generator", "n")
    assert await scene.look(0) == []
    (note,) = await scene.look(20)
    assert isinstance(note, StuckDetected)
    assert note.finding.rule == "no_worker"
    await scene.fold()
    await scene.beat()
    assert [type(note) for note in await scene.look(100)] == [StuckCleared]
    await scene.fold()
    assert await scene.look(120) == []
    (again,) = await scene.look(131)
    assert isinstance(again, StuckDetected)
    assert again.finding.rule == "no_progress"


async def test_a_paused_batch_is_left_alone(scene: Scene) -> None:
    scene.script.pause()
    await scene.publish()
    await scene.fold()
    assert await scene.look(0) == []
    assert await scene.look(100_000) == []


async def test_time_in_which_a_batch_is_paused_is_held_against_nobody(scene: Scene) -> None:
    await scene.nodes.leave("generator", "n")
    assert await scene.look(0) == []
    scene.script.release(0)
    scene.script.pause()
    await scene.publish()
    await scene.fold()
    assert await scene.look(10) == []
    scene.script.resume()
    await scene.publish()
    await scene.fold()
    assert await scene.look(24) == []
    (note,) = await scene.look(26)
    assert isinstance(note, StuckDetected)
    assert (note.finding.rule, note.finding.idle_s) == ("no_worker", pytest.approx(16, abs=1))


async def test_a_pause_that_is_not_folded_yet_is_left_alone_too(scene: Scene) -> None:
    assert await scene.look(0) == []
    scene.script.pause()
    await scene.publish()
    assert await scene.look(100) == []


async def test_a_new_watchdog_neither_accuses_nor_acquits_at_once(
    running: RunningLog, scene: Scene
) -> None:
    await scene.look(0)
    assert len(await scene.look(40)) == 1
    await scene.fold()
    scene.dog = scene.another_dog()
    assert await scene.look(50) == []
    stuck = scene.projection.snapshot.live[scene.script.batch_id].state.stuck
    assert stuck is not None


async def test_an_absent_log_suspends_the_watch(running: RunningLog, scene: Scene) -> None:
    await scene.look(0)
    running.server.kill()
    await running.server.wait()
    with pytest.raises(LogError):
        await scene.log.head()
    assert await scene.look(40) == []
    await running.server.start()
