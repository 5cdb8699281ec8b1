"""A proxy before nats-server that keeps chosen subscriptions from ever reaching it."""

import asyncio
from collections.abc import Collection
from typing import Self

CHUNK = 65_536
_WITH_PAYLOAD = (b"PUB", b"HPUB")


class DeafProxy:
    """Swallows each ``SUB`` to one of ``subjects``; everything else passes both ways.

    So a client is deaf to these subjects and can't know it: the case of a lost live signal.
    ``swallowed`` names those that were asked for. Use as an async context manager.
    """

    def __init__(self, port: int, subjects: Collection[str]) -> None:
        self._target = port
        self._subjects = {subject.encode() for subject in subjects}
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.swallowed: set[str] = set()

    @property
    def url(self) -> str:
        """Where clients connect.

        Raises:
            RuntimeError: the proxy is not open.
        """
        if self._server is None:
            raise RuntimeError("the proxy is not open")
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=CHUNK * 4)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._open:
                writer.transport.abort()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # the server is away: the client finds the same behind any address
            writer.transport.abort()
            return
        self._open |= {writer, up_writer}
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._filter(reader, up_writer))
                pumps.create_task(self._copy(up_reader, writer))
        finally:
            self._open -= {writer, up_writer}

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(CHUNK):
                sink.write(data)
                await sink.drain()
        except OSError:
            sink.transport.abort()
        else:
            sink.close()

    async def _filter(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Copy what a client says, line by line; payloads are taken whole."""
        try:
            while line := await source.readline():
                words = line.split()
                if words[:1] == [b"SUB"] and words[1] in self._subjects:
                    self.swallowed.add(words[1].decode())
                    continue
                sink.write(line)
                if words and words[0] in _WITH_PAYLOAD:
                    sink.write(await source.readexactly(int(words[-1]) + 2))
                await sink.drain()
        except (OSError, asyncio.IncompleteReadError):
            sink.transport.abort()
        else:
            sink.close()
