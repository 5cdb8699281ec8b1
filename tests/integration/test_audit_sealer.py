"""The sealer: roots in the audit stream and in a file, and an alarm when two contradict."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog.testing

from millstream.eventlog.chain import GENESIS, ChainState, extend
from millstream.eventlog.checkpoints import CheckpointFile, CheckpointLog, read_checkpoints
from millstream.eventlog.nodes import Nodes
from millstream.testing.asking import is_answered, publish
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import RunningLog, everything, fill_stream
from millstream.testing.waiting import BOUND_S
from millstream_projector.__main__ import main
from millstream_projector.audit import sealer as sealer_module
from millstream_projector.audit.sealer import Sealer
from millstream_projector.opening import open_store
from millstream_projector.projection import Projection
from millstream_schemas.audit import Checkpoint, CheckpointView

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """Steady seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Node:
    """A projection of the log and its sealer, moved by hand."""

    def __init__(self, running: RunningLog, directory: Path, name: str, stream: str) -> None:
        self.clock = Clock()
        self.store = open_store(directory, stream=stream, last_sequence=10**9)
        self.projection = Projection(self.store)
        self.file = CheckpointFile(directory / "checkpoints.jsonl")
        self.log = running.event_log
        self.sealer = Sealer(
            self.projection,
            CheckpointLog(running.event_log.answers),
            self.file,
            stream=stream,
            node=name,
            clock=lambda: NOW,
            steady=self.clock,
        )
        self.sealer.open_file()

    async def fold(self, until: int | None = None) -> None:
        stored = await everything(self.log)
        self.projection.advance([item for item in stored if item.sequence <= (until or 10**9)])

    async def look_later(self) -> None:
        """Look, and once more when ten seconds have passed."""
        await self.sealer.look()
        self.clock.now_s += 10
        await self.sealer.look()


async def node(running: RunningLog, directory: Path, name: str = "a") -> Node:
    head = await running.event_log.head()
    return Node(running, directory, name, head.created)


async def sealed(running: RunningLog) -> list[Checkpoint]:
    log = CheckpointLog(running.event_log.answers)
    views: list[CheckpointView] = [view async for page in log.after(0) for view in page]
    return [view.checkpoint for view in views]


async def test_a_thousand_events_are_sealed_at_once_and_fewer_after_ten_seconds(
    running: RunningLog, tmp_path: Path
) -> None:
    a = await node(running, tmp_path / "a")
    await fill_stream(running.event_log, 1000)
    await a.fold(999)
    await a.sealer.look()
    assert await sealed(running) == []
    await a.fold()
    await a.sealer.look()
    (first,) = await sealed(running)
    assert (first.from_sequence, first.to_sequence, first.events) == (1, 1000, 1000)
    assert first.previous_root == GENESIS.hex()
    assert first.root == extend(ChainState(), await everything(running.event_log)).root.hex()
    await fill_stream(running.event_log, 1)
    await a.fold()
    await a.sealer.look()
    assert len(await sealed(running)) == 1
    a.clock.now_s += 10
    await a.sealer.look()
    second = (await sealed(running))[1]
    assert (second.from_sequence, second.to_sequence) == (1001, 1001)
    assert second.previous_root == first.root
    assert read_checkpoints(a.file.path) == ([first, second], 0)
    a.clock.now_s += 60
    await a.sealer.look()
    assert len(await sealed(running)) == 2


async def test_two_projectors_seal_one_chain_and_agree(running: RunningLog, tmp_path: Path) -> None:
    a, b = await node(running, tmp_path / "a"), await node(running, tmp_path / "b", "b")
    await fill_stream(running.event_log, 30)
    for number in range(5):
        await fill_stream(running.event_log, 7)
        for each in (a, b) if number % 2 else (b, a):
            await each.fold()
            await each.look_later()
    found = await sealed(running)
    assert {one.node for one in found} == {"a", "b"}
    assert [one.from_sequence for one in found[1:]] == [one.to_sequence + 1 for one in found[:-1]]
    assert [one.previous_root for one in found[1:]] == [one.root for one in found[:-1]]
    assert (a.sealer.alarm, b.sealer.alarm) == (None, None)
    assert (a.sealer.unchecked, b.sealer.unchecked) == (0, 0)
    for each in (a, b):  # each has a file of all that it saw
        assert read_checkpoints(each.file.path)[0][-1].to_sequence == found[-1].to_sequence


async def test_a_checkpoint_with_another_root_is_an_alarm(
    running: RunningLog, tmp_path: Path
) -> None:
    a = await node(running, tmp_path / "a")
    await fill_stream(running.event_log, 30)
    await a.fold()
    await a.look_later()
    (true,) = await sealed(running)
    await fill_stream(running.event_log, 10)
    false = true.model_copy(
        update={"from_sequence": 31, "to_sequence": 35, "root": "f" * 64, "node": "evil"}
    )
    await CheckpointLog(running.event_log.answers).append(false, expected=1)
    await a.sealer.look()
    assert a.sealer.alarm is None  # not there yet
    await a.fold()
    with structlog.testing.capture_logs() as logs:
        await a.look_later()
    alarm = a.sealer.alarm
    assert alarm is not None
    assert (alarm.sequence, alarm.expected, alarm.source) == (35, "f" * 64, "projector evil")
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == [
        "chain.contradicted"
    ]
    assert len(await sealed(running)) == 2  # nothing is sealed on top of it
    assert read_checkpoints(a.file.path)[0][-1].to_sequence == 40  # but the own file goes on


async def test_a_restart_goes_on_with_chain_and_file(running: RunningLog, tmp_path: Path) -> None:
    a = await node(running, tmp_path / "a")
    await fill_stream(running.event_log, 30)
    await a.fold()
    await a.look_later()
    a.store.close()
    with a.file.path.open("ab") as file:  # a crash in mid-write
        file.write(b'{"stream": "2026')
    await fill_stream(running.event_log, 10)
    again = await node(running, tmp_path / "a")
    await again.fold()
    await again.look_later()
    first, second = await sealed(running)
    assert (second.from_sequence, second.to_sequence, second.events) == (31, 40, 40)
    assert second.root == extend(ChainState(), await everything(running.event_log)).root.hex()
    assert read_checkpoints(again.file.path) == ([first, second], 1)
    assert again.sealer.alarm is None


async def test_a_rebuilt_projector_compares_with_its_own_file(
    running: RunningLog, tmp_path: Path
) -> None:
    a = await node(running, tmp_path / "a")
    await fill_stream(running.event_log, 30)
    await a.fold()
    await a.look_later()
    a.store.close()
    (tmp_path / "a" / "views.duckdb").unlink()
    text = a.file.path.read_text().replace(a.projection.snapshot.chain.root.hex(), "e" * 64)
    a.file.path.write_text(text)
    again = await node(running, tmp_path / "a")
    await again.sealer.look()
    await again.fold()
    await again.sealer.look()
    assert again.sealer.alarm is not None
    assert again.sealer.alarm.source == str(a.file.path)


async def test_a_log_that_ends_before_its_checkpoints_is_an_alarm(
    running: RunningLog, tmp_path: Path
) -> None:
    a = await node(running, tmp_path / "a")
    await fill_stream(running.event_log, 30)
    await a.fold()
    await a.look_later()
    a.sealer.log_ends(30)
    assert a.sealer.alarm is None
    a.sealer.log_ends(29)
    assert a.sealer.alarm is not None
    assert a.sealer.alarm.found is None
    assert "the log ends before it" in a.sealer.alarm.words


async def test_the_file_of_another_stream_is_put_aside(running: RunningLog, tmp_path: Path) -> None:
    a = await node(running, tmp_path / "a")
    await fill_stream(running.event_log, 3)
    await a.fold()
    await a.look_later()
    a.store.close()
    a.store.path.unlink()  # as the refusal of a read model of another stream tells people to
    again = Node(running, tmp_path / "a", "a", "another stream")
    assert not again.file.path.exists()
    assert len(list((tmp_path / "a").glob("checkpoints.*.jsonl"))) == 1
    await again.fold()
    await again.look_later()  # the audit stream's are of the other stream: from the start on
    assert (await sealed(running))[-1].from_sequence == 1


async def test_a_full_disk_stops_the_file_and_nothing_else(
    running: RunningLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await node(running, tmp_path / "a")
    await fill_stream(running.event_log, 3)
    await a.fold()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(a.file, "append", full)
    with structlog.testing.capture_logs() as logs:
        await a.look_later()
        await a.sealer.look()
    assert len(await sealed(running)) == 1
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == [
        "checkpoints.unwritten"
    ]
    monkeypatch.undo()
    await a.sealer.look()
    assert len(read_checkpoints(a.file.path)[0]) == 1


async def test_the_place_after_a_sequence_is_found_by_halving(running: RunningLog) -> None:
    log = CheckpointLog(running.event_log.answers)
    assert await log.first_beyond("s", 0) == 1
    assert await log.last() is None
    assert await log.newest(5) == []
    for number in range(1, 8):
        one = Checkpoint(
            stream="s" if number > 2 else "older",
            from_sequence=1,
            to_sequence=number * 10,
            events=number,
            root="0" * 64,
            previous_root="0" * 64,
            node="a",
            sealed_at=NOW,
        )
        await log.append(one, expected=number - 1)
    assert [await log.first_beyond("s", after) for after in (0, 29, 30, 45, 69, 70)] == [
        3,
        3,
        4,
        5,
        7,
        8,
    ]
    assert [view.sequence for view in await log.newest(2)] == [6, 7]


async def test_a_projector_seals_and_shows_its_alarm_in_its_beat(
    running: RunningLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer_module, "AGE_MOST_S", 0.0)
    monkeypatch.setattr(sealer_module, "TICK_S", 0.05)
    monkeypatch.setattr("millstream.eventlog.nodes.BEAT_S", 0.1)
    script = Script(spec=example_spec(8)).run()
    await publish(running.event_log, script.tape)
    stop = asyncio.Event()
    nodes = Nodes(running.event_log.answers)
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(BOUND_S):
        tasks.create_task(main(running.settings, stop))
        while not await is_answered(running.event_log) or not (found := await sealed(running)):
            await asyncio.sleep(0.05)
        false = found[-1].model_copy(update={"root": "f" * 64})
        await CheckpointLog(running.event_log.answers).append(false, expected=len(found))
        while not (alarms := [beat.alarm for beat in await nodes.live() if beat.alarm]):
            await asyncio.sleep(0.05)
        stop.set()
    assert "run `millstream audit verify`" in alarms[0]
