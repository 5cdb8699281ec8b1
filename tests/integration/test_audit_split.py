"""A fold by several processes: the tables of one, and an end whatever happens to any of them."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from socket import socketpair
from typing import Any

import psutil
import pytest

from millstream.eventlog.stored import StandIn, Stored
from millstream.testing.asking import publish
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import RunningLog
from millstream.testing.redacted import redaction
from millstream.testing.sound_steps import mixed_log
from millstream.testing.tape import Tape
from millstream.testing.waiting import until
from millstream_projector import step
from millstream_projector.audit.digests import SOURCES, Buckets, bucket_sums
from millstream_projector.audit.distant import StrayBatchError
from millstream_projector.audit.split import FOLDING, Split
from millstream_projector.audit.wire import Channel, Told
from millstream_projector.opening import FILE, open_store
from millstream_projector.projection import Projection
from millstream_projector.store import Store, StoreError

STREAM = "2026-01-01T00:00:00Z"
FAR = 10**9
REBUILD = (sys.executable, "-P", "-m", "millstream_projector.audit.rebuild")

pytestmark = pytest.mark.anyio


def opened(path: Path) -> Store:
    return open_store(path, stream=STREAM, last_sequence=FAR)


def contents(store: Store) -> tuple[dict[str, Buckets], list[Any]]:
    """Return what the tables hold, and the checkpoint; closes the store."""
    reader = store.reader()
    sums = {table: bucket_sums(reader, table, FAR) for table in SOURCES}
    checkpoint = reader.execute("SELECT seq, root, chained FROM checkpoint").fetchall()
    reader.close()
    store.close()
    return sums, checkpoint


def folded_alone(path: Path, log: list[Stored]) -> tuple[dict[str, Buckets], list[Any]]:
    """Fold as a projector does that keeps up: a few events at a time."""
    store = opened(path)
    projection = Projection(store)
    for place in range(0, len(log), 40):
        projection.advance(log[place : place + 40])
    projection.close()
    return contents(store)


async def folded_by(
    parts: int, path: Path, log: list[Stored], rng: Random
) -> tuple[dict[str, Buckets], list[Any]]:
    """Fold with several processes."""
    store = opened(path)
    async with Split(store, parts) as split:
        place = 0
        while place < len(log):
            size = rng.randint(1, 60)
            await split.take(log[place : place + size])
            place += size
        assert await split.finish() == len(log)
    return contents(store)


@pytest.mark.parametrize("seed", range(3))
async def test_several_processes_make_the_tables_that_one_makes(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "BULK_EVENTS", 100)
    rng = Random(seed)
    log = mixed_log(rng, 8, strays=False)
    samples = [stored for stored in log if b'"type":"sample.' in stored.payload]
    for stored in rng.sample(samples, 10):
        made = redaction(stored, len(log) + 1, (0, 1))
        if made is not None:
            log.append(made)
    alone = folded_alone(tmp_path / "alone", log)
    for parts in (1, 3):
        assert await folded_by(parts, tmp_path / str(parts), log, rng) == alone


async def test_a_log_with_an_event_under_another_batchs_subject_needs_one_process(
    tmp_path: Path,
) -> None:
    rng = Random(3)
    log = mixed_log(rng, 4, strays=True)
    with pytest.raises(StrayBatchError, match="stands under another batch's subject"):
        await folded_by(2, tmp_path / "two", log, rng)
    alone = folded_alone(tmp_path / "alone", log)
    assert await folded_by(1, tmp_path / "one", log, rng) == alone


async def test_a_fold_ends_with_words_when_one_of_its_processes_is_killed(tmp_path: Path) -> None:
    log = mixed_log(Random(1), 6, strays=False)
    store = opened(tmp_path)
    async with Split(store, 2) as split:
        children = folders(os.getpid())
        assert len(children) == 2
        await split.take(log[:200])
        children[1].kill()
        with pytest.raises(StoreError, match=r"ended early \(exit code -9\)"):
            await fold_for_ever(split, log[200:])
    assert not any(child.is_running() for child in children)
    store.close()


async def fold_for_ever(split: Split, log: list[Stored]) -> None:
    for place in range(0, len(log), 50):
        await split.take(log[place : place + 50])
    await split.finish()


async def test_what_can_not_be_stored_ends_the_fold_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "BULK_EVENTS", 50)
    log = mixed_log(Random(2), 6, strays=False)
    store = opened(tmp_path)
    rival = store.reader()
    rival.begin()
    rival.execute("UPDATE views.checkpoint SET chained = 7")
    async with Split(store, 2) as split:
        with pytest.raises(StoreError, match="takes no rows"):
            await fold_for_ever(split, log)
    rival.rollback()
    rival.close()
    assert store.checkpoint == 0
    store.close()


def folders(pid: int) -> list[psutil.Process]:
    """Return the processes that fold for process ``pid``."""
    return [child for child in psutil.Process(pid).children() if FOLDING in child.cmdline()]


@asynccontextmanager
async def rebuilding(
    running: RunningLog, directory: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, psutil.Process]]:
    """Give a rebuild that can't get on, and the frozen process that it waits for."""
    tape = Tape()
    for number in range(3):
        Script(tape, batch_id=f"batch_1767225600_{number:08x}", spec=example_spec(20)).run()
    await publish(running.event_log, tape)
    (directory / FILE).parent.mkdir()
    process = await asyncio.create_subprocess_exec(
        *REBUILD,
        str(directory),
        env={
            **os.environ,
            "MILLSTREAM_NATS_URL": running.settings.nats_url,
            "MILLSTREAM_LOG_LEVEL": "error",
        },
        stderr=asyncio.subprocess.PIPE,
    )
    found: list[psutil.Process] = []

    def is_begun() -> bool:
        found[:] = folders(process.pid)
        return bool(found)

    await until(is_begun)
    found[0].suspend()
    try:
        yield process, found[0]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
async def test_a_rebuild_that_ends_early_leaves_no_process_behind(
    running: RunningLog, tmp_path: Path, number: signal.Signals
) -> None:
    async with rebuilding(running, tmp_path / "rebuild") as (process, folder):
        process.send_signal(number)
        assert process.stderr is not None
        if number is signal.SIGKILL:
            await process.wait()
            folder.resume()
        words = await process.stderr.read()
        assert await process.wait() == (-number if number is signal.SIGKILL else 1)
        assert words == b""
        await until(lambda: not folder.is_running())


async def test_a_rebuild_whose_folding_process_dies_fails_and_says_so(
    running: RunningLog, tmp_path: Path
) -> None:
    async with rebuilding(running, tmp_path / "rebuild") as (process, folder):
        folder.kill()
        assert process.stderr is not None
        words = await process.stderr.read()
        assert await process.wait() == 1
        assert b"a process that folds a part of the log ended early (exit code -9)" in words


def test_events_cross_to_another_process_unchanged() -> None:
    message = Stored(1, 0, "mill.events.b.note", b"{}", b"A: 1")
    stand_in = StandIn(2, 1, "mill.events.b.note", b"{}", b"", b"hash", 7)
    log = [message, stand_in, Stored(4, 2, "mill.events.b.note", b"[]")]
    near, far = socketpair()
    here, there = Channel(near), Channel(far)
    for told in (log[:2], log[2:], []):
        here.tell(Told.of(told, is_end=not told))
        found = there.told()
        assert (found.all_events, found.is_end) == (told, not told)
    here.end()
    with pytest.raises(EOFError):
        there.told()
    here.close()
    there.close()
