"""The stream endpoints as plain ASGI: dispatched before the framework, whose middlewares cost."""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from millstream.errors import UsageError
from millstream_api.relay.client import Client
from millstream_api.relay.frames import Flavour, NamedFrames, SeedFrames, retry_line
from millstream_api.relay.hub import Hub
from millstream_api.relay.positions import Position, parse_position
from millstream_schemas.envelope import BATCH_ID_PATTERN

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

AHEAD_WAIT_S = 2.0
"""How long a replica that is behind a client's id waits before it starts that client afresh."""
FILTER_MOST = 1000
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

FLAVOURS: dict[str, Callable[[str], Flavour]] = {
    "/api/generate/batch/stream": SeedFrames,
    "/v1/stream": NamedFrames,
}
"""Path -> how the stream there words its messages."""

_BATCH_ID = re.compile(BATCH_ID_PATTERN)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asks for: these batches (None: all), from its position on (None: afresh)."""

    batch_ids: frozenset[str] | None
    position: Position | None


class Relay:
    """Serves the streams from one hub."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def serves(self, scope: Scope) -> bool:
        """Tell whether the request is for a stream."""
        return scope["path"] in FLAVOURS and scope["method"] in {"GET", "HEAD"}

    async def __call__(self, scope: Scope, wanted: Wanted, receive: Receive, send: Send) -> None:
        """Serve one stream until the peer or the server ends it."""
        await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        flavour = FLAVOURS[scope["path"]](self.hub.epoch)
        if self.hub.is_full or self.hub.is_closing:
            # An error status would end an EventSource for good, so it is said in the stream.
            retry = RETRY_BUSY_MS if self.hub.is_full else retry_ms()
            await _send_last(send, retry_line(retry) + flavour.busy())
            return
        abort = scope.get("extensions", {}).get(ABORT, _no_abort)
        client = Client(flavour, None, wanted.batch_ids, abort)
        self.hub.join(client)
        try:
            async with asyncio.TaskGroup() as tasks:
                watch = tasks.create_task(_watch(receive, client))
                await self._serve(client, wanted.position, scope["path"], send)
                watch.cancel()
        finally:
            self.hub.leave(client)

    async def _serve(self, client: Client, asked: Position | None, path: str, send: Send) -> None:
        loop = asyncio.get_running_loop()
        await send(_part(retry_line(retry_ms())))
        if await self._started(client, asked):
            client.flavour = FLAVOURS[path](self.hub.epoch)
            client.cursor = self._cursor(asked)
            # Who comes back and has missed nothing is told so at once.
            client.beat = client.cursor == self.hub.sequence
        while not client.is_gone:
            chunk = self.hub.take(client) if self.hub.ready.is_set() else b""
            if client.is_ending:
                await _send_last(send, chunk + retry_line(retry_ms()))
                return
            if chunk:
                client.sending_since = loop.time()
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


def read_query(scope: Scope) -> Wanted:
    """Return the batches that the client wants (None: all) and where it stands.

    The header beats the query: a browser that comes back sends it beside the old address. An id
    that is none counts as no id at all, so that the client starts afresh instead of never.

    Raises:
        UsageError: a batch id that can't be one, or too many of them.
    """
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    wanted = query.get("batch_id", [])
    for batch_id in wanted:
        if not _BATCH_ID.match(batch_id):
            raise UsageError(
                f"batch_id={batch_id[:80]!a} is no batch id; give one like "
                "batch_1700000000_0a1b2c3d, or leave it out for all batches",
                field="batch_id",
                value=batch_id,
            )
    if len(wanted) > FILTER_MOST:
        raise UsageError(
            f"batch_id stands {len(wanted)} times; give at most {FILTER_MOST}, or none for all",
            field="batch_id",
            value=len(wanted),
        )
    text = (query.get("last_event_id") or [""])[0]
    for name, value in scope["headers"]:
        if name == b"last-event-id":
            text = value.decode("latin-1")
    return Wanted(frozenset(wanted) if wanted else None, parse_position(text))


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
