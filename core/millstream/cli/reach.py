"""Reaching the log from a command: the server that runs, or else the store of a directory."""

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from millstream.cli.lock import DirectoryLock
from millstream.cli.statefile import await_leftovers, is_running, read_state
from millstream.errors import UsageError
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.eventlog.server import NatsServer
from millstream.eventlog.topology import make_topology
from millstream.runtime.settings import Settings, load_settings

STORE = "nats"


@contextlib.asynccontextmanager
async def reached(
    nats: str | None, data: Path | None, *, makes_store: bool = False
) -> AsyncIterator[tuple[Settings, EventLog]]:
    """Give the log and the settings with which others reach it too.

    ``nats`` or MILLSTREAM_NATS_URL names a server; else the one of `up` on the directory is
    taken, and where none runs the directory's own store is served for the time of the block.
    ``makes_store``: the directory may be new, and nothing may run on it.

    Raises:
        UsageError: there is no log, or `up` runs on a directory that must be idle.
        LogError: the log can't be reached.
        ServerError: the store can't be served.
    """
    settings = load_settings(nats_url=nats, data_dir=data)
    state = read_state(settings.data_dir)
    if nats is not None or "MILLSTREAM_NATS_URL" in os.environ:
        async with _connected(settings) as found:
            yield found
    elif state is not None and is_running(state):
        if makes_store:
            raise UsageError(
                f"--data {settings.data_dir} is in use by `millstream up`; stop it, or name a new"
                " directory",
                field="data",
                value=str(settings.data_dir),
            )
        running = settings.model_copy(update={"nats_url": str(state["nats_url"])})
        async with _connected(running) as found:
            yield found
    else:
        async with _served(settings, makes_store=makes_store) as found:
            yield found


@contextlib.asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[tuple[Settings, EventLog]]:
    async with connected(settings, "audit") as connection:
        yield settings, EventLog(connection)


@contextlib.asynccontextmanager
async def _served(
    settings: Settings, *, makes_store: bool
) -> AsyncIterator[tuple[Settings, EventLog]]:
    directory = settings.data_dir
    if not makes_store and not (directory / STORE).is_dir():
        raise UsageError(
            f"--data {directory} holds no log and no `millstream up` runs on it; name the right"
            " directory with --data, or a server with --nats",
            field="data",
            value=str(directory),
        )
    lock = DirectoryLock(directory)
    lock.acquire()
    try:
        await_leftovers(directory)
        server = NatsServer(directory / STORE)
        await server.start()
        try:
            served = settings.model_copy(update={"nats_url": server.url})
            async with _connected(served) as found:
                if makes_store:
                    await make_topology(found[1].connection, served, (served.pool,))
                yield found
        finally:
            await server.stop()
    finally:
        lock.release()
