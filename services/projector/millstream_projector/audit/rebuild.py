"""`python -m millstream_projector.audit.rebuild DIRECTORY`: folds the log into a new file there."""

import asyncio
import contextlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import structlog

from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.eventlog.whole import read_range
from millstream.runtime.lifecycle import start_service
from millstream.runtime.settings import Settings
from millstream_projector.opening import open_store
from millstream_projector.projection import Projection
from millstream_projector.store import Store

log = structlog.get_logger()

NICENESS = 10
"""The live projector goes first."""


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Fold the log up to its end into ``DIRECTORY/views.duckdb``.

    Raises:
        LogUnavailableError: the log does not answer.
        StoreError: the file takes no rows.
        SystemExit: ``stop`` came first.
    """
    directory = Path(sys.argv[1])
    os.nice(NICENESS)
    async with connected(settings, "projector") as connection:
        event_log = EventLog(connection)
        head = await event_log.head()
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="writer") as writer:
            store = await loop.run_in_executor(
                writer,
                lambda: open_store(directory, stream=head.created, last_sequence=head.last),
            )
            try:
                await _fold(event_log, store, writer, stop)
            finally:
                await loop.run_in_executor(writer, store.finish)


async def _fold(
    event_log: EventLog, store: Store, writer: ThreadPoolExecutor, stop: asyncio.Event
) -> None:
    loop = asyncio.get_running_loop()
    projection = Projection(store)
    fold = partial(projection.advance, is_bulk=True)
    try:
        # What came in while the bulk was folded is folded too: the swap must not set anybody back.
        for _ in range(3):
            until = (await event_log.head()).last
            after = projection.snapshot.checkpoint
            feed = read_range(event_log, after=after, until=until, name="rebuild")
            async with contextlib.aclosing(feed):
                async for chunk in feed:
                    if stop.is_set():
                        raise SystemExit(1)
                    await loop.run_in_executor(writer, fold, chunk)
            await loop.run_in_executor(writer, projection.advance, ())
    finally:
        await loop.run_in_executor(writer, projection.close)
    log.info("rebuild.folded", checkpoint=projection.snapshot.checkpoint)


if __name__ == "__main__":
    sys.exit(start_service("rebuild", main))
