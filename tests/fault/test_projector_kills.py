"""kill -9 of a projector at random moments of its work: what it leaves is always a whole fold.

``MILLSTREAM_PROJECTOR_KILLS`` sets how many of each run (bench: 100).
"""

import asyncio
import contextlib
import os
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from millstream.errors import LogError
from millstream.eventlog.chain import ChainState, extend
from millstream.eventlog.log import EventLog
from millstream.eventlog.nodes import Nodes
from millstream.testing.asking import ask, publish, request
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.histories import play
from millstream.testing.nats import RunningLog, everything
from millstream.testing.tape import Entry, Tape
from millstream.testing.waiting import BOUND_S
from millstream_projector.audit.auditing import read_digests
from millstream_projector.opening import FILE, open_store
from millstream_projector.projection import Projection
from millstream_schemas.audit import Digests

pytestmark = [pytest.mark.anyio, pytest.mark.fault]

KILLS = int(os.environ.get("MILLSTREAM_PROJECTOR_KILLS", "4"))
BATCHES_PER_KILL = 4
ROOM_BYTES = 1_500_000


def batches(tape: Tape, count: int) -> list[Entry]:
    """Write ``count`` more whole batches onto ``tape`` and return their events."""
    before = len(tape.entries)
    for number in range(before, before + count):
        batch_id = f"batch_1767225600_{number:08x}"
        spec = example_spec(64, slice_size=16)
        Script(tape, batch_id=batch_id, spec=spec).run(failed=[number % 64])
    return tape.entries[before:]


async def append(log: EventLog, entries: list[Entry]) -> int:
    """Append events one by one, as they come; return the last one's sequence."""
    last = 0
    for entry in entries:
        last = await log.append(entry.recorded.event, expected=entry.expected)
    return last


async def start(running: RunningLog, data_dir: Path, **extra: str) -> asyncio.subprocess.Process:
    environment = {
        **os.environ,
        "MILLSTREAM_NATS_URL": running.server.url,
        "MILLSTREAM_DATA_DIR": str(data_dir),
        "MILLSTREAM_LOG_LEVEL": "error",
        # On a slow machine a watchdog would write between the events of the tape.
        "MILLSTREAM_STUCK_AFTER_S": "3600",
        **extra,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "millstream_projector", env=environment
    )


def digests(data_dir: Path, created: str) -> tuple[Digests, int]:
    """Return the digests of a file that nobody has open, and its checkpoint."""
    store = open_store(data_dir, stream=created, last_sequence=2**62)
    reader = store.reader()
    reader.begin()
    found = read_digests(reader, node="test")
    reader.rollback()
    reader.close()
    checkpoint = store.checkpoint
    store.close()
    return found, checkpoint


def undisturbed(data_dir: Path, created: str, stored: list[Any]) -> Digests:
    """Return the digests of a fold of ``stored`` that nothing disturbs; it goes on from before."""
    store = open_store(data_dir, stream=created, last_sequence=2**62)
    Projection(store).advance(stored)
    store.close()
    return digests(data_dir, created)[0]


@pytest.mark.timeout(300 + 30 * KILLS)
async def test_what_a_kill_leaves_is_the_fold_up_to_its_checkpoint(
    running: RunningLog, tmp_path: Path
) -> None:
    chance, tape, log = random.Random(20260101), Tape(), running.event_log
    created = (await log.head()).created
    data_dir, copy, fresh_dir = tmp_path / "views", tmp_path / "copy", tmp_path / "fresh"
    seen: list[int] = []
    last = 0
    for number in range(KILLS):
        process = await start(running, data_dir)
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(append(log, batches(tape, BATCHES_PER_KILL)))
            if number % 4:  # one in four is killed while it starts
                async with asyncio.timeout(BOUND_S):
                    while await folded(log) <= max(seen, default=0):
                        await asyncio.sleep(0.01)
            else:
                await asyncio.sleep(chance.uniform(0.3, 2.0))
            await asyncio.sleep(chance.uniform(0.0, 0.3))
            process.kill()
            await process.wait()
            last = await writing
        if not (data_dir / FILE).exists():
            continue
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(data_dir, copy)  # opening a file heals it: the projector is to do so
        left, checkpoint = await asyncio.to_thread(digests, copy, created)
        assert not (copy / f"{FILE}.bad").exists()
        stored = (await everything(log))[:checkpoint]
        assert left.root == extend(ChainState(), stored).root.hex()
        fresh = await asyncio.to_thread(undisturbed, fresh_dir, created, stored)
        assert left.tables == fresh.tables
        seen.append(checkpoint)
    assert len(set(seen)) > KILLS // 2, "the kills came while nothing happened"
    process = await start(running, data_dir)
    try:
        live = await audited(log, last)
    finally:
        process.kill()
        await process.wait()
    # From the first event on, so that no fold of before lends its result.
    stored = (await everything(log))[: live.as_of]
    whole = await asyncio.to_thread(undisturbed, tmp_path / "whole", created, stored)
    assert (live.tables, live.root) == (whole.tables, whole.root)


async def folded(log: EventLog) -> int:
    """Return the projector's checkpoint, 0 while it starts."""
    try:
        return int((await ask(log, "stuck")).as_of)
    except LogError:
        return 0


async def audited(log: EventLog, last: int) -> Digests:
    """Return the digests of the projector that runs, once it has come to ``last``."""
    async with asyncio.timeout(BOUND_S):
        while True:
            with contextlib.suppress(LogError):  # it starts
                data, error = await request(log, "audit_digests", b'{"min_sequence": %d}' % last)
                if not error:
                    return Digests.model_validate_json(data)
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("place", ["before-swap", "amid-swap", "after-swap"])
async def test_a_kill_amid_the_swap_of_a_rebuild_leaves_one_whole_file(
    running: RunningLog, tmp_path: Path, place: str
) -> None:
    script = play(random.Random(3), example_spec(60, slice_size=8), 150, "stopped")
    log = running.event_log
    created = (await log.head()).created
    last = await publish(log, script.tape)
    data_dir, marker = tmp_path / "views", tmp_path / "killed"
    process = await start(running, data_dir, MILLSTREAM_FAULT_POINT=f"{place}:kill:{marker}")
    try:
        await audited(log, last)
        await request(log, "audit_rebuild", b'{"start": true}')
        async with asyncio.timeout(BOUND_S):
            assert await process.wait() == -9
        assert marker.exists()
        process = await start(running, data_dir)
        after = await audited(log, last)
        stored = (await everything(log))[: after.as_of]
        whole = await asyncio.to_thread(undisturbed, tmp_path / "whole", created, stored)
        assert (after.tables, after.root) == (whole.tables, whole.root)
        assert not (data_dir / "rebuild").exists()
        assert not (data_dir / f"{FILE}.bad").exists()
        other = Script(batch_id="batch_1767225600_0000000e")
        sequence = await log.append(other.start().event, expected=0)
        assert (await audited(log, sequence)).events >= sequence
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_full_disk_is_told_and_waited_out(running: RunningLog, tmp_path: Path) -> None:
    """A bound on the size of its files stands for the projector's disk; then it is lifted."""
    script = Script(spec=example_spec(400, slice_size=64))
    script.start()
    for slot in range(400):
        script.generate(slot, {"question": str(slot), "answer": os.urandom(4000).hex()})
    log, data_dir = running.event_log, tmp_path / "views"
    created = (await log.head()).created
    process = await start(running, data_dir)
    try:
        await audited(log, await append(log, script.tape.entries[:50]))
        most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (ROOM_BYTES, most[1]))
        last = await append(log, script.tape.entries[50:])
        async with asyncio.timeout(BOUND_S):
            while not (alarm := await alarm_of(log)):
                await asyncio.sleep(0.1)
        assert alarm.startswith("no room for the read model at ")
        assert "free some space" in alarm
        before = await audited(log, 0)  # it goes on answering
        assert 0 < before.as_of < last
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, most)
        live = await audited(log, last)
        async with asyncio.timeout(BOUND_S):
            while await alarm_of(log):
                await asyncio.sleep(0.1)
    finally:
        process.kill()
        await process.wait()
    assert not (data_dir / f"{FILE}.bad").exists()
    stored = (await everything(log))[: live.as_of]
    fresh = await asyncio.to_thread(undisturbed, tmp_path / "fresh", created, stored)
    assert (live.tables, live.root) == (fresh.tables, fresh.root)


def test_a_full_disk_at_the_start_is_no_damage(tmp_path: Path) -> None:
    """The file stays where it is: putting it aside would cost a rebuild, and yet more room."""
    tape = Script().run().tape
    store = open_store(tmp_path, stream="s", last_sequence=2**62)
    Projection(store).advance(tape.stored)
    store.close()
    size = (tmp_path / FILE).stat().st_size
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from millstream_projector.opening import open_store\n"
        "from millstream_projector.room import DiskFullError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "try: open_store(Path(sys.argv[1]), stream='s', last_sequence=0)\n"
        "except DiskFullError as error: print(error)\n"
    )
    other = tmp_path / "other"
    ran = subprocess.run(
        [sys.executable, "-c", code, str(other)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith(f"no room for the read model at {other / FILE}")
    assert (tmp_path / FILE).stat().st_size == size


async def alarm_of(log: EventLog) -> str:
    """Return what the projector's beat complains of."""
    beats = await Nodes(log.answers).live()
    return next((beat.alarm for beat in beats if beat.service == "projector"), "")
