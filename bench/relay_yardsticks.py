"""What the relay is measured against: the same frames by other means, each a server of its own.

``python -m bench.relay_yardsticks KIND PORT FRAMES_PER_S BYTES CLIENTS``. The frames begin once
so many clients are there: who is busy with frames may let nobody else in. ``protocol`` writes to
bare transports, which is the least that Python can do; ``fastapi`` and ``sse-starlette`` are what
people would pick, with a queue per client.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sized
from typing import Any

import uvicorn
import uvloop

KINDS = ("protocol", "sse-starlette", "fastapi")
QUEUED_MOST = 1000
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nretry: 1000\n\n"


def text(size: int) -> str:
    """Return the data of a frame that says when it was made, of about ``size`` bytes in all."""
    now = time.time()  # noqa: TID251  # read by another process
    start = f'{{"at":{now:.6f},"fill":"'
    return start + "x" * max(0, size - len(start) - 12) + '"}'


async def tick(rate: float, write: Any, readers: Sized, clients: int) -> None:
    """Call ``write`` so many times a second, once all are there; never ends."""
    while len(readers) < clients:
        await asyncio.sleep(0.05)
    begun, done = time.monotonic(), 0
    while True:
        write()
        done += 1
        await asyncio.sleep(max(0.0, begun + done / rate - time.monotonic()))


class Bare(asyncio.Protocol):
    """A connection that is written to, and never read beyond its request."""

    open: set[Any] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = transport

    def data_received(self, _: bytes) -> None:
        """Answer the request."""
        self._transport.write(HEAD)  # type: ignore[attr-defined]  # a stream transport
        self.open.add(self._transport)

    def connection_lost(self, _: Exception | None) -> None:
        """Let the transport go."""
        self.open.discard(self._transport)


async def bare(port: int, rate: float, size: int, clients: int) -> None:
    """Serve bare transports."""

    def write() -> None:
        frame = f"data: {text(size)}\n\n".encode()
        for transport in list(Bare.open):
            transport.write(frame)

    await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", port, backlog=4096)
    await tick(rate, write, Bare.open, clients)


async def framework(kind: str, port: int, rate: float, size: int, clients: int) -> None:
    """Serve a framework's event streams."""
    queues: set[asyncio.Queue[str]] = set()

    async def following() -> AsyncIterator[str]:
        queue: asyncio.Queue[str] = asyncio.Queue(QUEUED_MOST)
        queues.add(queue)
        try:
            yield text(size)
            while True:
                yield await queue.get()
        finally:
            queues.discard(queue)

    def write() -> None:
        data = text(size)
        for queue in queues:
            if not queue.full():
                queue.put_nowait(data)

    app = _fastapi(following) if kind == "fastapi" else _starlette(following)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, log_level="critical", backlog=4096, lifespan="off"
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(uvicorn.Server(config).serve())
        tasks.create_task(tick(rate, write, queues, clients))


def _fastapi(following: Any) -> Any:
    from fastapi import FastAPI  # noqa: PLC0415  # each yardstick alone
    from fastapi.sse import EventSourceResponse, ServerSentEvent  # noqa: PLC0415

    app = FastAPI()

    @app.get("/", response_class=EventSourceResponse)
    async def stream() -> AsyncIterator[ServerSentEvent]:
        async for data in following():
            yield ServerSentEvent(raw_data=data)

    return app


def _starlette(following: Any) -> Any:
    from sse_starlette import EventSourceResponse, ServerSentEvent  # noqa: PLC0415
    from starlette.applications import Starlette  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    async def stream(_: Any) -> EventSourceResponse:
        return EventSourceResponse(ServerSentEvent(data=data) async for data in following())

    return Starlette(routes=[Route("/", stream)])


def main() -> None:
    """Serve until killed."""
    kind, port, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    size, clients = int(sys.argv[4]), int(sys.argv[5])
    if kind == "protocol":
        uvloop.run(bare(port, rate, size, clients))
    else:
        uvloop.run(framework(kind, port, rate, size, clients))


if __name__ == "__main__":
    main()
