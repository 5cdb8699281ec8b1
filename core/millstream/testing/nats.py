"""A real nats-server with the streams made, for tests and benches."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from nats.aio.client import Client

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.eventlog.server import NatsServer
from millstream.eventlog.stored import Stored, decode
from millstream.eventlog.topology import ensure_topology
from millstream.runtime.clock import new_id
from millstream.runtime.settings import Settings
from millstream.testing.tape import Entry
from millstream.testing.waiting import BOUND_S, until
from millstream_schemas import subjects
from millstream_schemas.envelope import Actor
from millstream_schemas.slices import SliceClaimed, SliceState

BATCH_ID = "batch_1767225600_00000001"
TIME = datetime(2026, 1, 1, tzinfo=UTC)
ACTOR = Actor(kind="system", id="test")
FILL_TOGETHER = 100


@dataclass(frozen=True, slots=True)
class RunningLog:
    """A server of its own, its settings, one connection to it and that connection's log."""

    server: NatsServer
    settings: Settings
    connection: Client
    event_log: EventLog

    async def restart(self) -> None:
        """Kill the server as a power cut would and start it again on the same store and port."""
        self.server.kill()
        await self.server.wait()
        await self.server.start()


@contextlib.asynccontextmanager
async def running_log(path: Path, **settings: Any) -> AsyncIterator[RunningLog]:
    """Give a running server with its store under ``path``; ``settings`` replace defaults."""
    server = NatsServer(path / "nats")
    await server.start()
    try:
        chosen = Settings(nats_url=server.url, data_dir=path, node="test", **settings)
        async with connected(chosen, "test") as connection:
            await ensure_topology(connection, chosen)
            yield RunningLog(server, chosen, connection, EventLog(connection))
    finally:
        await server.stop()


def claim(
    index: int, number: int = 1, *, batch_id: str = BATCH_ID, padding: int = 0
) -> SliceClaimed:
    """Return the ``number``-th claim of slice ``index``: an event with a subject of its own.

    ``padding`` bytes are added to its size.
    """
    return SliceClaimed(
        id=new_id(),
        source="test",
        subject=subjects.slice_(batch_id, index),
        time=TIME,
        actor=ACTOR,
        causation_id="test",
        batch_id=batch_id,
        slice=index,
        after=SliceState(epoch=number, node="n" * padding),
    )


async def everything(event_log: EventLog) -> list[Stored]:
    """Return the whole stream."""
    return [stored async for page in event_log.history(subjects.ALL_EVENTS) for stored in page]


class SilentProxy:
    """A TCP proxy before a server that can swallow the server's answers, and cut connections.

    Use as an async context manager.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._muted: set[asyncio.StreamWriter] = set()
        self._open: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where clients connect.

        Raises:
            RuntimeError: the proxy is not open.
        """
        if self._server is None:
            raise RuntimeError("the proxy is not open")
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def mute(self) -> None:
        """Swallow all that the server says on the connections that are open now."""
        self._muted.update(self._open)

    def cut(self) -> None:
        """Cut all connections at once."""
        for client, upstream in self._open.items():
            for writer in (client, upstream):
                writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            self.cut()
            await self._server.wait_closed()
        await until(lambda: not self._open, what="connections end")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # the server is away: the client finds the same behind any address
            writer.transport.abort()
            return
        self._open[writer] = up_writer
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, up_writer, None))
                pumps.create_task(self._pump(up_reader, writer, writer))
        finally:
            del self._open[writer]
            self._muted.discard(writer)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        client: asyncio.StreamWriter | None,
    ) -> None:
        try:
            while data := await source.read(65_536):
                if client not in self._muted:
                    sink.write(data)
                    await sink.drain()
        except OSError:
            sink.transport.abort()
        else:
            sink.close()


async def fill_stream(
    event_log: EventLog, count: int, *, slices: int = 20, padding: int = 0
) -> None:
    """Append ``count`` claims, spread evenly over ``slices`` subjects of one batch."""
    async with asyncio.TaskGroup() as tasks:
        for index in range(slices):
            numbers = range(1, count // slices + (index < count % slices) + 1)
            tasks.create_task(_fill_slice(event_log, index, list(numbers), padding))


async def _fill_slice(event_log: EventLog, index: int, numbers: list[int], padding: int) -> None:
    found = await event_log.last(subjects.slice_(BATCH_ID, index))
    last = found.sequence if found else 0
    for start in range(0, len(numbers), FILL_TOGETHER):
        part = numbers[start : start + FILL_TOGETHER]
        chain = [claim(index, number, padding=padding) for number in part]
        last = await event_log.append_chain(chain, expected=last, bound_s=30)


async def read_until(feed: AsyncGenerator[list[Stored], None], sequence: int) -> list[Stored]:
    """Return what ``feed`` yields up to ``sequence``; the feed stays open.

    Raises:
        TimeoutError: it did not come in time.
    """
    found: list[Stored] = []
    async with asyncio.timeout(BOUND_S):
        while not found or found[-1].sequence < sequence:
            found.extend(await anext(feed))
    return found


async def store(event_log: EventLog, entries: Iterable[Entry]) -> None:
    """Append what a tape holds, in its order; the sequences may be others than the tape's."""
    last: dict[str, int] = {}
    for entry in entries:
        event = entry.recorded.event
        last[event.subject] = await event_log.append(event, expected=last.get(event.subject, 0))


async def folded(event_log: EventLog) -> dict[str, BatchState]:
    """Return every batch of the log, folded event by event from its beginning."""
    batches: dict[str, BatchState] = {}
    for stored in await everything(event_log):
        recorded = decode(stored)
        if recorded is not None:
            batch_id = recorded.event.batch_id
            state = batches.get(batch_id, BatchState(batch_id))
            batches[batch_id] = apply(state, recorded)
    return batches
