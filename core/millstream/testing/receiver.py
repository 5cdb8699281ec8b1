"""A real HTTP server that takes webhooks as its script says, and keeps what it was sent."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """Which message it is."""
        return self.headers["webhook-id"]

    @property
    def message(self) -> dict[str, Any]:
        """The decoded body."""
        document: dict[str, Any] = json.loads(self.body)
        return document


Reply = int | web.Response
"""A status, or the whole answer; the status 0 drops the connection without one."""


class Receiver:
    """Answers request number ``n`` (0-based) with ``script(n)``; use it as a context.

    While ``held`` is not set no request is answered.
    """

    def __init__(self, script: Callable[[int], Reply] = lambda _: 204) -> None:
        self.script = script
        self.requests: list[Received] = []
        self.held = asyncio.Event()
        self.held.set()
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        """Listen on a free port of this machine."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        _, port = self._runner.addresses[0]
        self.url = f"http://127.0.0.1:{port}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the server."""
        self.held.set()
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def ids(self) -> list[str]:
        """The ids of all requests, in order."""
        return [request.id for request in self.requests]

    @property
    def types(self) -> list[str]:
        """The types of all requests, in order."""
        return [request.message["type"] for request in self.requests]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        number = len(self.requests)
        self.requests.append(Received(headers, await request.read()))
        await self.held.wait()
        reply = self.script(number)
        if isinstance(reply, web.Response):
            return reply
        if reply == 0 and request.transport is not None:
            request.transport.abort()
        return web.Response(status=reply or 500)
