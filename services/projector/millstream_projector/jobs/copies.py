"""Copies of the live file for reads that may take long: the projector alone opens that file itself.

The writer moves its write-ahead log into the file and goes on; the file is then copied beside it,
together with the little that the log may still hold. Blocks that the file's header knows are never
written over before the next checkpoint, so that a copy whose header did not change meanwhile is
whole. One copy serves many: it is made anew when a reader needs it fresher.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import duckdb
import structlog

from millstream.errors import QueryFailedError
from millstream.runtime.clock import boot_seconds
from millstream_projector.opening import FILE
from millstream_projector.store import Store, wal_file

log = structlog.get_logger()

DIRECTORY = "copies"
HEADER_BYTES = 3 * 4096
"""DuckDB's main header and the two that take turns at each checkpoint."""
FRESH_S = 5.0
KEPT_S = 30.0
"""A copy that nobody reads is removed after so long."""
RESERVE_BYTES = 512 * 2**20
"""Kept free on the disk: the event store needs it more than any reader."""
TRIES = 3
_PART_BYTES = 64 * 2**20


@dataclass(slots=True)
class Copy:
    """One copy: its file, and the checkpoint up to which it holds everything."""

    path: Path
    as_of: int
    made_at_s: float
    readers: int = 0
    left_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Moment:
    """The live file as the writer left it: its header, and how long its log is."""

    as_of: int
    header: bytes
    log_bytes: int


class Copies:
    """The copies of one live file; ``writer`` is the thread that owns ``store``."""

    def __init__(self, store: Store, writer: Executor, data_dir: Path) -> None:
        self.directory = data_dir / DIRECTORY
        self._store = store
        self._writer = writer
        self._copies: list[Copy] = []
        self._making = asyncio.Lock()
        self._number = 0

    @contextlib.asynccontextmanager
    async def lent(self, min_sequence: int, *, may_be_old: bool = False) -> AsyncIterator[Copy]:
        """Lend a copy that holds everything up to ``min_sequence``, for the time of the block.

        It is at most five seconds old unless nothing has come since, or it ``may_be_old``.

        Raises:
            QueryFailedError: the disk has no room for it, or the copy did not come about.
        """
        async with self._making:
            copy = self._fitting(min_sequence, may_be_old=may_be_old)
            if copy is None:
                copy = await self._make()
                self._copies.append(copy)
            copy.readers += 1
        try:
            yield copy
        finally:
            copy.readers -= 1
            copy.left_at_s = boot_seconds()

    def _fitting(self, min_sequence: int, *, may_be_old: bool) -> Copy | None:
        newest = max(self._copies, key=lambda copy: copy.as_of, default=None)
        if newest is None or newest.as_of < min_sequence:
            return None
        is_fresh = (
            newest.as_of == self._store.checkpoint or boot_seconds() - newest.made_at_s < FRESH_S
        )
        return newest if is_fresh or may_be_old else None

    async def _make(self) -> Copy:
        await asyncio.to_thread(self._remove_unread, 0.0)
        loop = asyncio.get_running_loop()
        for _ in range(TRIES):
            self._number += 1
            path = self.directory / str(self._number) / FILE
            moment = await loop.run_in_executor(self._writer, _settle, self._store)
            if await asyncio.to_thread(_copy, self._store.path, path, moment):
                log.info("copy.made", as_of=moment.as_of)
                return Copy(path, moment.as_of, boot_seconds(), left_at_s=boot_seconds())
            await asyncio.to_thread(shutil.rmtree, path.parent, ignore_errors=True)
        raise QueryFailedError(
            "busy", "the read model changes too fast to be copied now; ask again in a minute"
        )

    async def tidy(self) -> None:
        """Remove copies that nobody reads any more."""
        async with self._making:
            await asyncio.to_thread(self._remove_unread, KEPT_S)

    def _remove_unread(self, kept_s: float) -> None:
        now = boot_seconds()
        for copy in list(self._copies):
            if not copy.readers and now - copy.left_at_s >= kept_s:
                self._copies.remove(copy)
                shutil.rmtree(copy.path.parent, ignore_errors=True)

    def clear(self) -> None:
        """Remove everything, also what a killed projector has left; nobody may be reading."""
        self._copies.clear()
        shutil.rmtree(self.directory, ignore_errors=True)


def check_room(directory: Path, wanted_bytes: int) -> None:
    """Check that the disk of ``directory`` can take so much and keep its reserve.

    Raises:
        QueryFailedError: it can't.
    """
    free = shutil.disk_usage(directory).free
    if free < wanted_bytes + RESERVE_BYTES:
        raise QueryFailedError(
            "failed",
            f"{directory} has {free / 2**20:,.0f} MB free, and this needs"
            f" {wanted_bytes / 2**20:,.0f} MB besides the {RESERVE_BYTES / 2**20:,.0f} MB kept for"
            " the event store; make room, or ask a projector with more of it",
        )


def _settle(store: Store) -> _Moment:
    """Move the log into the file unless a reader stands in the way; the writer's thread waits."""
    connection = store.reader()
    try:
        if store.wal_bytes:
            connection.execute("CHECKPOINT")
    except duckdb.TransactionException as error:  # then the copy takes the log along
        log.info("checkpoint.postponed", reason=str(error))
    finally:
        connection.close()
    return _Moment(store.checkpoint, _header(store.path), store.wal_bytes)


def _copy(source: Path, target: Path, moment: _Moment) -> bool:
    """Copy the file and its log as of ``moment``; tell whether the copy is whole.

    Raises:
        QueryFailedError: the disk is full, or can't be written.
    """
    size = source.stat().st_size
    check_room(source.parent, size + moment.log_bytes)
    try:
        target.parent.mkdir(parents=True)
        if moment.log_bytes and not _copy_bytes(
            wal_file(source), wal_file(target), moment.log_bytes
        ):
            return False
        return _copy_bytes(source, target, size) and _header(source) == moment.header
    except OSError as error:
        shutil.rmtree(target.parent, ignore_errors=True)
        raise QueryFailedError("failed", f"the read model can't be copied: {error}") from error


def _copy_bytes(source: Path, target: Path, size: int) -> bool:
    """Copy the first ``size`` bytes; the system shares the blocks where it can."""
    try:
        with source.open("rb") as old, target.open("wb") as new:
            left = size
            while left:
                done = _copy_part(old.fileno(), new.fileno(), min(left, _PART_BYTES))
                if not done:
                    return False
                left -= done
    except FileNotFoundError:  # the log has just been moved into the file
        return False
    return True


def _copy_part(old: int, new: int, size: int) -> int:
    if hasattr(os, "copy_file_range"):
        return os.copy_file_range(old, new, size)
    return os.write(new, os.read(old, size))


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEADER_BYTES)
