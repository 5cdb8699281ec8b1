"""ETags of reads: who has the answer already is told so in about a hundred bytes."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Send = Callable[[Any], Awaitable[None]]

CACHE = (b"cache-control", b"private, no-cache")


def wanted_tags(scope: Mapping[str, Any]) -> bytes:
    """Return what a request's If-None-Match says, empty for none."""
    return b",".join(value for name, value in scope["headers"] if name == b"if-none-match")


class Freshness:
    """Sends one read's answer, or 304 when the client has the same bytes.

    The tag is weak and made from the whole body, ``as_of`` included: a client is never told that
    it has what it has not. A route's own tag (a batch's version) stays in front of it.
    """

    def __init__(self, tags: bytes, send: Send) -> None:
        self._tags = {_plain(tag) for tag in tags.split(b",")} if tags else frozenset()
        self._send = send
        self._start: Any = None

    async def send(self, message: Any) -> None:
        """Take one ASGI message of the application."""
        if message["type"] == "http.response.start" and message["status"] == 200:
            self._start = message
            return
        start, self._start = self._start, None
        if start is not None:
            if message.get("more_body", False):  # streamed: not known before it is sent
                await self._send(start)
            else:
                start, message = self._tagged(start, message)
                await self._send(start)
        await self._send(message)

    def _tagged(self, start: Any, message: Any) -> tuple[Any, Any]:
        digest = hashlib.blake2b(message.get("body", b""), digest_size=8).hexdigest().encode()
        own = next((value for name, value in start["headers"] if name == b"etag"), b"")
        tag = b'%b-%b"' % (own[:-1], digest) if own.startswith(b'"') else b'"%b"' % digest
        headers = [pair for pair in start["headers"] if pair[0] not in {b"etag", CACHE[0]}]
        fresh = (b"etag", b"W/" + tag)
        if tag in self._tags:
            return {**start, "status": 304, "headers": [fresh, CACHE]}, {**message, "body": b""}
        return {**start, "headers": [*headers, fresh, CACHE]}, message


def _plain(tag: bytes) -> bytes:
    return tag.strip().removeprefix(b"W/")
