"""The stream endpoints as plain ASGI: dispatched before the framework, whose middlewares cost."""

import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from millstream.runtime.clock import utc_now
from millstream_api.problems import ProblemError
from millstream_api.relay.asking import FLAVOURS, STREAM_PATHS, Wanted, read_query
from millstream_api.relay.client import Client, Pipe
from millstream_api.relay.events import EventStream
from millstream_api.relay.frames import Flavour, retry_line
from millstream_api.relay.hub import Hub
from millstream_api.relay.limits import Limits
from millstream_api.relay.positions import Position
from millstream_api.relay.replay import Replay
from millstream_api.relay.ring import Wish

__all__ = ["Receive", "Relay", "Scope", "Send", "read_query"]

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

AHEAD_WAIT_S = 2.0
"""How long a replica that is behind a client's id waits before it starts that client afresh."""
RETRY_MS = (500, 1500)
"""What a browser waits that lost its stream: it is live within two seconds of the server's return.

Where a proxy answers with an error meanwhile the page waits by itself, longer after a long outage.
"""
RETRY_BUSY_MS = 30_000
PIPE = "millstream.pipe"
"""ASGI extension of our server: the connection itself, as a `Pipe`."""

HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
)


class Relay:
    """Serves the streams from one hub."""

    def __init__(
        self,
        hub: Hub,
        replay: Replay | None = None,
        limits: Limits | None = None,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Serve from ``hub``; without a ``replay`` no event that is older than its ring.

        ``clock`` tells the time that pages measure by, which is that of the events' stamps.
        """
        self.hub = hub
        self._limits = limits if limits is not None else Limits()
        self._clock = clock
        self._replay = replay
        self._pusher = self._push
        self._flavours: dict[tuple[str, str], Flavour] = {}

    def serves(self, scope: Scope) -> bool:
        """Tell whether the request is for a stream.

        Raises:
            ProblemError: it is, by a method that a stream does not take (405).
        """
        if scope["path"] not in STREAM_PATHS:
            return False
        if scope["method"] not in {"GET", "HEAD"}:
            allowed = {"Allow": "GET, HEAD"}
            raise ProblemError(
                405, "method_not_allowed", "a stream takes GET only", headers=allowed
            )
        return True

    async def __call__(
        self,
        scope: Scope,
        wanted: Wanted,
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
        flavour = self._flavour(wanted.flavour)
        if self.hub.is_full or self.hub.is_closing:
            # An error status would end an EventSource for good, so it is said in the stream.
            # One that closes sends its readers to another replica, and says no more than when.
            full = retry_line(RETRY_BUSY_MS) + flavour.busy()
            await _send_last(send, retry_line(retry_ms()) if self.hub.is_closing else full)
            return
        pipe: Pipe = scope["extensions"][PIPE]
        client = Client(flavour, None, wanted.batch_ids, pipe, is_admitted)
        self.hub.join(client)
        pipe.follow(client)
        try:
            pipe.write(retry_line(retry_ms()))
            if wanted.flavour == "events":
                await self._serve_events(client, wanted, send)
            else:
                await self._serve(client, wanted, send)
        finally:
            client.push = None  # A round of the hub's that is under way still holds the client.
            pipe.follow(None)
            self.hub.leave(client)

    def _flavour(self, name: str) -> Flavour:
        """Return the one flavour of that name that all clients share."""
        key = name, self.hub.epoch
        if key not in self._flavours:
            self._flavours[key] = FLAVOURS[name](self.hub.epoch, self._clock)
        return self._flavours[key]

    async def _serve_events(self, client: Client, wanted: Wanted, send: Send) -> None:
        async def send_frames(body: bytes) -> None:
            self.hub.note_send(client, len(body))
            await send({"type": "http.response.body", "body": body, "more_body": True})

        if await self._started(client, wanted.position):
            wish = Wish(wanted.batch_ids, wanted.types)
            stream = EventStream(self.hub, self._replay, client, wish, self._clock)
            await stream.serve(wanted.position, resumes=wanted.resumes, send=send_frames)
        if not client.is_gone:
            await _send_last(send, retry_line(retry_ms()))

    async def _serve(self, client: Client, wanted: Wanted, send: Send) -> None:
        rest = b""
        if await self._started(client, wanted.position):
            client.flavour = self._flavour(wanted.flavour)
            client.cursor = self._cursor(wanted.position)
            # Who comes back and has missed nothing is told so at once.
            client.beat = client.cursor == self.hub.sequence
            client.push = self._pusher
            client.push(client)
            await client.over()
            rest = self.hub.take(client)
        if not client.is_gone:
            await _send_last(send, rest + retry_line(retry_ms()))

    def _push(self, client: Client) -> None:
        """Write what the client has not seen, unless its peer has yet to take what was written."""
        if client.pipe.paused_since is not None:
            return
        if chunk := self.hub.take(client) + self._limits.news(client):
            self.hub.note_send(client, len(chunk))
            client.pipe.write(chunk)

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


async def _send_last(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": False})
