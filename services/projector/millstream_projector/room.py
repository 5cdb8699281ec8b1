"""A full disk: told from other failures, waited out, and never mistaken for a damaged file."""

import asyncio
import errno
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path

import structlog

from millstream.errors import MillstreamError
from millstream.eventlog.stored import Stored

log = structlog.get_logger()

RETRY_S = 2.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = tuple(os.strerror(number) for number in _FULL)


class StoreError(MillstreamError):
    """The read model can't be written or read; the log is untouched, a restart reads it again."""


class DiskFullError(StoreError):
    """There is no room for the read model; nothing was stored, and it goes on once there is."""


def refused(path: Path, what: str, error: Exception) -> StoreError:
    """Return the failure of a write at ``path`` as an error of ours; ``what`` tells what failed."""
    if is_full(error):
        return DiskFullError(
            f"no room for the read model at {path}: {error}; free some space on that disk, or give"
            " the projector another MILLSTREAM_DATA_DIR (the log holds everything)"
        )
    return StoreError(f"{path} {what}: {error}")


def is_full(error: Exception) -> bool:
    """Tell whether ``error`` says that the disk, the quota or the largest file size is used up."""
    return getattr(error, "errno", None) in _FULL or any(
        words in str(error) for words in _FULL_WORDS
    )


def has_room(path: Path, size: int) -> bool:
    """Tell whether the disk of ``path`` has ``size`` bytes left."""
    try:
        return shutil.disk_usage(path.parent).free >= size
    except OSError:
        return True  # whoever writes finds out


class Patience:
    """Stores chunk after chunk; ``alarm`` tells in words that the disk is full meanwhile."""

    def __init__(self) -> None:
        self.alarm = ""

    async def store(
        self,
        writer: Executor,
        advance: Callable[[Sequence[Stored]], int],
        chunk: Sequence[Stored],
        stop: asyncio.Event,
    ) -> int | None:
        """Return the checkpoint after ``chunk``, None if ``stop`` came while the disk was full.

        Readers see the moment before it meanwhile.

        Raises:
            StoreError: the read model takes no rows, and not for want of room.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                checkpoint = await loop.run_in_executor(writer, advance, chunk)
            except DiskFullError as error:
                if not self.alarm:  # said once, not every two seconds
                    log.error("store.full", reason=str(error))  # noqa: TRY400  # expected
                self.alarm = str(error)
            else:
                if self.alarm:
                    log.info("store.has_room", checkpoint=checkpoint)
                self.alarm = ""
                return checkpoint
            try:
                async with asyncio.timeout(RETRY_S):
                    await stop.wait()
            except TimeoutError:
                continue
            return None
