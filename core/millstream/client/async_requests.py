"""Sends requests in asyncio and awaits their answers."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Self

import httpx

from millstream.client.requests import (
    ATTEMPTS,
    AnswerT,
    ApiRequest,
    backoff,
    check,
    options,
    pause_after,
    read,
    unreachable,
)


class AsyncRequests:
    """The server at ``url``; ``token`` is sent as a bearer token when given. Use as a context.

    Raises:
        UsageError: ``url`` is not an http(s) address.
    """

    def __init__(self, url: str = "http://127.0.0.1:5001", token: str | None = None) -> None:
        self._client = httpx.AsyncClient(**options(url, token))
        self.url = url.rstrip("/")
        self.answered_at: float | None = None  # on the monotonic clock

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(self, kind: type[AnswerT], request: ApiRequest) -> AnswerT:
        return read(await self.send(request), kind)

    async def send(self, request: ApiRequest) -> httpx.Response:
        """Return the answer, whatever its status; a lost or busy request is repeated as it was.

        Raises:
            UnreachableError: the server gave no answer.
        """
        arguments = request.arguments()
        attempt = 1
        while True:
            try:
                answer = await self._client.request(request.method, request.path, **arguments)
            except httpx.TransportError as error:
                # A server that has answered before may be starting again.
                nobody_there = self.answered_at is None and isinstance(error, httpx.ConnectError)
                if nobody_there or attempt == ATTEMPTS:
                    raise unreachable(self.url, error) from error
                pause = backoff(attempt)
            else:
                self.answered_at = time.monotonic()
                if (asked := pause_after(answer, attempt)) is None:
                    return answer
                pause = asked
            await asyncio.sleep(pause)
            attempt += 1

    @contextlib.asynccontextmanager
    async def _pieces(self, request: ApiRequest) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give the body piece by piece.

        Raises:
            ApiError: the server refused.
            UnreachableError: it gave no answer, or broke off; what came is not whole then.
        """
        try:
            async with self._client.stream(
                request.method, request.path, **request.arguments()
            ) as answer:
                if not answer.is_success:
                    await answer.aread()
                check(answer)
                yield answer.aiter_bytes()
        except httpx.TransportError as error:
            raise unreachable(self.url, error) from error
