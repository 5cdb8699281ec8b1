"""Sends requests and waits for their answers."""

import contextlib
import time
from collections.abc import Iterator
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


class SyncRequests:
    """The server at ``url``; ``token`` is sent as a bearer token when given. Use as a context.

    Raises:
        UsageError: ``url`` is not an http(s) address.
    """

    def __init__(self, url: str = "http://127.0.0.1:5001", token: str | None = None) -> None:
        self._client = httpx.Client(**options(url, token))
        self.url = url.rstrip("/")
        self.answered_at: float | None = None  # on the monotonic clock

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, kind: type[AnswerT], request: ApiRequest) -> AnswerT:
        return read(self.send(request), kind)

    def send(self, request: ApiRequest) -> httpx.Response:
        """Return the answer, whatever its status; a lost or busy request is repeated as it was.

        Raises:
            UnreachableError: the server gave no answer.
        """
        arguments = request.arguments()
        attempt = 1
        while True:
            try:
                answer = self._client.request(request.method, request.path, **arguments)
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
            time.sleep(pause)
            attempt += 1

    @contextlib.contextmanager
    def _pieces(self, request: ApiRequest) -> Iterator[Iterator[bytes]]:
        """Give the body piece by piece.

        Raises:
            ApiError: the server refused.
            UnreachableError: it gave no answer, or broke off; what came is not whole then.
        """
        try:
            with self._client.stream(request.method, request.path, **request.arguments()) as answer:
                if not answer.is_success:
                    answer.read()
                check(answer)
                yield answer.iter_bytes()
        except httpx.TransportError as error:
            raise unreachable(self.url, error) from error
