"""A fold by several processes comes to an end, whatever happens to any of them."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import psutil
import pytest

from millstream.eventlog.stored import Stored
from millstream.testing.asking import publish
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import RunningLog
from millstream.testing.sound_steps import mixed_log
from millstream.testing.tape import Tape
from millstream.testing.waiting import until
from millstream_projector import step
from millstream_projector.audit import split as split_module
from millstream_projector.audit.split import FOLDING, Split
from millstream_projector.audit.wire import Channel, Told
from millstream_projector.changes import Changes
from millstream_projector.opening import open_store
from millstream_projector.store import Store, StoreError

STREAM = "2026-01-01T00:00:00Z"
FAR = 10**9
REBUILD = (sys.executable, "-P", "-m", "millstream_projector.audit.rebuild")
HANG_S = 20
"""What takes so long has no end."""
FROZEN_AT_START = f"""
import os, signal, sys
if {FOLDING!r} in sys.orig_argv:
    os.kill(os.getpid(), signal.SIGSTOP)
"""
"""Python runs it as ``sitecustomize`` in each process whose PYTHONPATH holds it."""

pytestmark = pytest.mark.anyio


def opened(path: Path) -> Store:
    return open_store(path, stream=STREAM, last_sequence=FAR)


async def test_a_fold_ends_with_words_when_one_of_its_processes_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split_module, "TOLD_MOST", 20)
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
    monkeypatch.setattr(split_module, "TOLD_MOST", 20)
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


def ended_and_late(late: int) -> tuple[list[Stored], list[Stored]]:
    """Return two batches that end one after the other, and events of the first that come late.

    Where each event has a transaction of its own, the late ones need what is in the tables.
    """
    tape = Tape()
    for number in range(2):
        Script(tape, batch_id=f"batch_1767225600_{number:08x}", spec=example_spec(1)).run()
    ended = [entry.stored for entry in tape.entries]
    return ended, [
        Stored(len(ended) + 1 + place, ended[0].time_us, ended[0].subject, ended[0].payload)
        for place in range(late)
    ]


async def test_an_answer_that_fails_unforeseen_ends_the_fold_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "BULK_EVENTS", 1)
    monkeypatch.setattr(split_module, "TOLD_MOST", 1)
    ended, late = ended_and_late(1)
    store = opened(tmp_path)

    def load(batch_id: str) -> None:
        raise KeyError(batch_id)

    monkeypatch.setattr(store, "load", load)
    async with Split(store, 1) as split:
        with pytest.raises(KeyError, match="batch_1767225600_00000000"):
            async with asyncio.timeout(HANG_S):
                await fold_for_ever(split, ended + late)
    store.close()


async def test_a_transaction_that_fails_unforeseen_ends_the_fold_while_a_process_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "BULK_EVENTS", 1)
    monkeypatch.setattr(split_module, "TOLD_MOST", 1)
    monkeypatch.setattr(split_module, "AHEAD_BYTES", 0)
    ended, late = ended_and_late(5_000)  # more than a socket holds
    store = opened(tmp_path)
    write = store.write

    def write_but_the_last(changes: Changes) -> None:
        if changes.checkpoint == len(ended):
            raise ZeroDivisionError("nobody thought of it")
        write(changes)

    monkeypatch.setattr(store, "write", write_but_the_last)
    async with Split(store, 1) as split:
        await split.take(ended)
        monkeypatch.setattr(step, "BULK_EVENTS", FAR)
        with pytest.raises(ZeroDivisionError, match="nobody thought of it"):
            async with asyncio.timeout(HANG_S):
                await fold_for_ever(split, late)
    store.close()


async def test_a_transactions_end_that_can_not_be_told_ends_the_fold_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = Channel.tell

    def tell_but_ends(channel: Channel, told: Told) -> None:
        if told.is_end:
            raise MemoryError
        tell(channel, told)

    monkeypatch.setattr(Channel, "tell", tell_but_ends)
    store = opened(tmp_path)
    async with Split(store, 1) as split:
        with pytest.raises(MemoryError):
            async with asyncio.timeout(HANG_S):
                await fold_for_ever(split, ended_and_late(0)[0])
    store.close()


def folders(pid: int) -> list[psutil.Process]:
    """Return the processes that fold for process ``pid``."""
    return [child for child in psutil.Process(pid).children() if FOLDING in child.cmdline()]


def has_ended(process: psutil.Process) -> bool:
    """Tell whether a process runs no more, even where nobody takes notice of orphans' ends."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@asynccontextmanager
async def rebuilding(
    running: RunningLog, directory: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, psutil.Process]]:
    """Give a rebuild that can't get on, and the frozen process that it waits for."""
    tape = Tape()
    Script(tape, spec=example_spec(20)).run()
    await publish(running.event_log, tape)
    directory.mkdir()
    frozen = directory.with_name("frozen")
    frozen.mkdir()
    (frozen / "sitecustomize.py").write_text(FROZEN_AT_START)
    process = await asyncio.create_subprocess_exec(
        *REBUILD,
        str(directory),
        env={
            **os.environ,
            "MILLSTREAM_NATS_URL": running.settings.nats_url,
            "MILLSTREAM_LOG_LEVEL": "error",
            "PYTHONPATH": str(frozen),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    found: list[psutil.Process] = []

    def is_frozen() -> bool:
        found[:] = folders(process.pid)
        return bool(found) and found[0].status() == psutil.STATUS_STOPPED

    try:
        await until(is_frozen)
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
        await until(lambda: has_ended(folder))


async def test_a_rebuild_whose_folding_process_dies_fails_and_says_so(
    running: RunningLog, tmp_path: Path
) -> None:
    async with rebuilding(running, tmp_path / "rebuild") as (process, folder):
        folder.kill()
        assert process.stderr is not None
        words = await process.stderr.read()
        assert await process.wait() == 1
        assert b"a process that folds a part of the log ended early (exit code -9)" in words
