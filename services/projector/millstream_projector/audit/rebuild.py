"""`python -m millstream_projector.audit.rebuild DIRECTORY`: folds the log into a new file there.

This process reads the log, a child of it folds: each takes about half of the work.
"""

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from millstream.errors import ServerError
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.eventlog.whole import read_range
from millstream.runtime.lifecycle import start_service
from millstream.runtime.settings import Settings
from millstream_projector.audit.wire import Begin, Teller

log = structlog.get_logger()

NICENESS = 10
"""The live projector goes first."""


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Fold the log up to its end into ``DIRECTORY/views.duckdb``.

    Raises:
        LogUnavailableError: the log does not answer.
        ServerError: the fold ended early; its own words stand before.
        SystemExit: ``stop`` came first.
    """
    directory = Path(sys.argv[1])
    os.nice(NICENESS)
    async with connected(settings, "projector") as connection, _folding() as fold:
        event_log = EventLog(connection)
        head = await event_log.head()
        teller = Teller()
        await _tell(fold, teller.begin(Begin(str(directory), head.created, head.last)))
        after = 0
        # What came in while the bulk was folded is folded too: the swap must not set anybody back.
        for _ in range(3):
            until = (await event_log.head()).last
            feed = read_range(event_log, after=after, until=until, name="rebuild")
            async with contextlib.aclosing(feed):
                async for chunk in feed:
                    if stop.is_set():
                        raise SystemExit(1)
                    await _tell(fold, teller.tell(chunk))
                    after = chunk[-1].sequence
        await _tell(fold, teller.end())
        if await fold.wait():
            raise ServerError("the fold ended early")
        log.info("rebuild.folded", checkpoint=after)


@contextlib.asynccontextmanager
async def _folding() -> AsyncIterator[Process]:
    """Give the process that folds; one that was not told of the end ends without a file."""
    fold = await create_subprocess_exec(
        *(sys.executable, "-P", "-m", "millstream_projector.audit.folding"), stdin=PIPE
    )
    try:
        yield fold
    finally:
        if fold.returncode is None:
            fold.kill()
            await fold.wait()


async def _tell(fold: Process, frame: bytes) -> None:
    if fold.stdin is None:
        raise RuntimeError("the fold was started without a way to tell it anything")
    try:
        fold.stdin.write(frame)
        await fold.stdin.drain()
    except (BrokenPipeError, ConnectionResetError) as error:
        raise ServerError("the fold ended early") from error


if __name__ == "__main__":
    sys.exit(start_service("rebuild", main))
