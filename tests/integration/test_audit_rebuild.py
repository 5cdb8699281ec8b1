"""A rebuild: a new file beside the old one, which answers until the new one takes its place."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from millstream.errors import LogUnavailableError
from millstream.eventlog.log import EventLog
from millstream.testing.asking import ask, is_answered, publish, request
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.histories import play
from millstream.testing.nats import RunningLog
from millstream.testing.waiting import BOUND_S
from millstream_projector.__main__ import main
from millstream_projector.audit import rebuilding
from millstream_schemas.audit import Digests, RebuildStatus

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def projecting(running: RunningLog) -> AsyncIterator[None]:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(main(running.settings, stop))
        try:
            async with asyncio.timeout(BOUND_S):
                while not await is_answered(running.event_log):
                    await asyncio.sleep(0.05)
            yield
        finally:
            stop.set()


async def digests(event_log: EventLog, last: int) -> Digests:
    data, error = await request(event_log, "audit_digests", b'{"min_sequence": %d}' % last)
    assert not error
    return Digests.model_validate_json(data)


async def status(event_log: EventLog, *, start: bool) -> RebuildStatus:
    data, _ = await request(
        event_log, "audit_rebuild", b'{"start": true}' if start else b'{"start": false}'
    )
    return RebuildStatus.model_validate_json(data)


async def ended(event_log: EventLog) -> RebuildStatus:
    """Return the status once the rebuild has ended; nobody answers while files are swapped."""
    async with asyncio.timeout(BOUND_S):
        while True:
            try:
                found = await status(event_log, start=False)
            except LogUnavailableError:
                found = None
            if found is not None and found.state in {"done", "failed"}:
                return found
            await asyncio.sleep(0.1)


async def test_a_rebuilt_file_takes_the_old_ones_place_and_tells_the_same(
    running: RunningLog, tmp_path: Path
) -> None:
    script = play(Random(2), example_spec(60, slice_size=8), 150, "stopped")
    log = running.event_log
    last = await publish(log, script.tape)
    file = tmp_path / "views.duckdb"
    async with projecting(running):
        before = await digests(log, last)
        old = file.stat().st_ino
        assert (await status(log, start=False)).state == "idle"
        assert (await status(log, start=True)).state == "running"
        assert (await status(log, start=True)).state == "running"  # one is enough
        view = await ask(log, "batch", batch_id=script.batch_id)  # it answers meanwhile
        assert view.batch.state == "stopped"
        assert (await ended(log)).state == "done"
        assert file.stat().st_ino != old
        assert not (tmp_path / "rebuild").exists()
        after = await digests(log, last)
        assert after.tables["samples"] == before.tables["samples"]
        assert after.tables["attempts"] == before.tables["attempts"]
        other = Script(batch_id="batch_1767225600_0000000e")
        sequence = await log.append(other.start().event, expected=0)
        answer = await ask(log, "batch", batch_id=other.batch_id, min_sequence=sequence)
        assert answer.batch.state == "queued"  # and the projection goes on


async def test_a_rebuild_that_fails_leaves_everything_as_it_was(
    running: RunningLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = running.event_log
    last = await publish(log, Script().run().tape)
    async with projecting(running):
        before = await digests(log, last)
        old = (tmp_path / "views.duckdb").stat().st_ino
        monkeypatch.setattr(rebuilding, "DIRECTORY", "views.duckdb/impossible")
        assert (await status(log, start=True)).state == "running"
        found = await ended(log)
        assert (found.state, "exit code 1" in found.message) == ("failed", True)
        assert (tmp_path / "views.duckdb").stat().st_ino == old
        assert (await digests(log, last)).tables == before.tables
        monkeypatch.undo()
        await status(log, start=True)
        assert (await ended(log)).state == "done"


async def test_a_stop_ends_a_rebuild_too(running: RunningLog, tmp_path: Path) -> None:
    await publish(running.event_log, Script().run().tape)
    async with projecting(running):
        await status(running.event_log, start=True)
    async with projecting(running):  # what the child left is removed
        assert not (tmp_path / "rebuild").exists()
        assert (await status(running.event_log, start=False)).state == "idle"
