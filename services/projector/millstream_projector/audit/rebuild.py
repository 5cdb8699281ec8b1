"""`python -m millstream_projector.audit.rebuild DIRECTORY`: folds the log into a new file there.

This process reads the log and stores; others fold, each a part of the batches.
"""

import asyncio
import contextlib
import gc
import os
import sys
from pathlib import Path

import structlog

from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.eventlog.whole import read_range
from millstream.runtime.lifecycle import start_service
from millstream.runtime.settings import Settings
from millstream_projector.audit.distant import StrayBatchError
from millstream_projector.audit.split import Split, parts_for
from millstream_projector.opening import FILE, open_store
from millstream_projector.store import wal_file

log = structlog.get_logger()

NICENESS = 10
"""The live projector goes first."""
YOUNG_OBJECTS = 50_000
"""The collector looks at what is new once it is so much: reading leaves it hardly anything."""


async def main(settings: Settings, stop: asyncio.Event) -> None:
    """Fold the log up to its end into ``DIRECTORY/views.duckdb``.

    Raises:
        LogUnavailableError: the log does not answer.
        StoreError: the file takes no rows, or a process that folds has died.
        SystemExit: ``stop`` came first.
    """
    os.nice(NICENESS)
    gc.set_threshold(YOUNG_OBJECTS)
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(_rebuild(settings, Path(sys.argv[1])))
        stopped = tasks.create_task(stop.wait())
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        work.cancel()  # one that has ended takes no notice
    if work.cancelled():
        raise SystemExit(1)


async def _rebuild(settings: Settings, directory: Path) -> None:
    async with connected(settings, "projector") as connection:
        event_log = EventLog(connection)
        parts = parts_for((await event_log.head()).last)
        try:
            await _fold(event_log, directory, parts)
        except StrayBatchError as error:
            log.warning("rebuild.begun_again", reason=str(error))
            path = directory / FILE
            for file in (path, wal_file(path)):
                file.unlink(missing_ok=True)
            await _fold(event_log, directory, 1)


async def _fold(event_log: EventLog, directory: Path, parts: int) -> None:
    head = await event_log.head()
    store = open_store(directory, stream=head.created, last_sequence=head.last)
    try:
        async with Split(store, parts) as split:
            await _read(event_log, split)
            checkpoint = await split.finish()
    except BaseException:
        store.close()
        raise
    await asyncio.to_thread(store.finish)
    log.info("rebuild.folded", checkpoint=checkpoint)


async def _read(event_log: EventLog, split: Split) -> None:
    after = 0
    # What came in while the bulk was folded is folded too: the swap must not set anybody back.
    for _ in range(3):
        until = (await event_log.head()).last
        feed = read_range(event_log, after=after, until=until, name="rebuild")
        async with contextlib.aclosing(feed):
            async for chunk in feed:
                await split.take(chunk)
                after = chunk[-1].sequence


if __name__ == "__main__":
    sys.exit(start_service("rebuild", main))
