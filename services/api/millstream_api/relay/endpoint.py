"""The stream endpoints as plain ASGI: dispatched before the framework, whose middlewares cost."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from millstream_api.relay.asking import FLAVOURS, STREAM_PATHS, Wanted, read_query
from millstream_api.relay.client import Client
from millstream_api.relay.events import EventStream
from millstream_api.relay.frames import retry_line
from millstream_api.relay.hub import Hub
from millstream_api.relay.positions import Position
from millstream_api.relay.replay import Replay
from millstream_api.relay.ring import Wish

__all__ = ["Receive", "Relay", "Scope", "Send", "read_query"]

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

AHEAD_WAIT_S = 2.0
"""How long a replica that is behind a client's id waits before it starts that client afresh."""
RETRY_MS = (1000, 3000)
RETRY_BUSY_MS = 30_000
ABORT = "millstream.abort"
"""ASGI extension of our server: a function that drops the connection."""

HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
)


class Relay:
    """Serves the streams from one hub."""

    def __init__(self, hub: Hub, replay: Replay | None = None) -> None:
        """Serve from ``hub``; without a ``replay`` no event that is older than its ring."""
        self.hub = hub
        self._replay = replay

    def serves(self, scope: Scope) -> bool:
        """Tell whether the request is for a stream."""
        return scope["path"] in STREAM_PATHS and scope["method"] in {"GET", "HEAD"}

    async def __call__(
        self,
        scope: Scope,
        wanted: Wanted,
        receive: Receive,
        send: Send,
        *,
        is_admitted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Serve one stream until the peer or the server ends it.

        ``is_admitted`` tells whether its token still counts; ``end_revoked`` asks.
        """
        await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        flavour = FLAVOURS[wanted.flavour](self.hub.epoch)
        if self.hub.is_full or self.hub.is_closing:
            # An error status would end an EventSource for good, so it is said in the stream.
            retry = RETRY_BUSY_MS if self.hub.is_full else retry_ms()
            await _send_last(send, retry_line(retry) + flavour.busy())
            return
        abort = scope.get("extensions", {}).get(ABORT, _no_abort)
        client = Client(flavour, None, wanted.batch_ids, abort, is_admitted)
        self.hub.join(client)
        try:
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(_watch(receive, client))
                await send(_part(retry_line(retry_ms())))
                if wanted.flavour == "events":
                    await self._serve_events(client, wanted, send)
                else:
                    await self._serve(client, wanted, send)
                watch.cancel()
        finally:
            self.hub.leave(client)

    async def _serve_events(self, client: Client, wanted: Wanted, send: Send) -> None:
        async def send_frames(body: bytes) -> None:
            self.hub.note_send(len(body))
            await send(_part(body))

        if await self._started(client, wanted.position):
            wish = Wish(wanted.batch_ids, wanted.types)
            stream = EventStream(self.hub, self._replay, client, wish)
            await stream.serve(wanted.position, resumes=wanted.resumes, send=send_frames)
        if not client.is_gone:
            await _send_last(send, retry_line(retry_ms()))

    async def _serve(self, client: Client, wanted: Wanted, send: Send) -> None:
        loop = asyncio.get_running_loop()
        if await self._started(client, wanted.position):
            client.flavour = FLAVOURS[wanted.flavour](self.hub.epoch)
            client.cursor = self._cursor(wanted.position)
            # Who comes back and has missed nothing is told so at once.
            client.beat = client.cursor == self.hub.sequence
        while not client.is_gone:
            chunk = self.hub.take(client) if self.hub.ready.is_set() else b""
            if client.is_ending:
                await _send_last(send, chunk + retry_line(retry_ms()))
                return
            if chunk:
                client.sending_since = loop.time()
                self.hub.note_send(len(chunk))
                await send(_part(chunk))
                client.sending_since = None
            await client.woken()

    async def _started(self, client: Client, asked: Position | None) -> bool:
        """Wait for the cold fold and for the place where the client stands; False: it is over."""
        while not self.hub.ready.is_set():
            if client.is_gone or client.is_ending:
                return False
            await client.woken()
        if asked is not None and asked.epoch in {None, self.hub.epoch}:
            await self.hub.reach(asked.sequence, AHEAD_WAIT_S)
        return True

    def _cursor(self, asked: Position | None) -> int | None:
        """Return where the client goes on; None: afresh, its place is not one of this stream."""
        if asked is None or asked.epoch not in {None, self.hub.epoch}:
            return None
        return asked.sequence if asked.sequence <= self.hub.sequence else None


def retry_ms() -> int:
    """Return a random delay: clients that were cut off together must not come back together."""
    return random.randint(*RETRY_MS)  # noqa: S311  # jitter


async def _watch(receive: Receive, client: Client) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    client.leave()


def _part(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _send_last(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _no_abort() -> None:
    """Stand in on a server that can't drop a connection: the write then waits for the peer."""
