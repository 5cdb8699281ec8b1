"""Keeps what a provider sent in place of a stream, while litellm reads it: one JSON document.

Some proxies answer 200 and tell in a document what went wrong behind them. litellm's readers take
it for an empty stream, or fail in words of their own.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from millstream_generator.completion import CallFailedError, Progress
from millstream_generator.failures import ERROR_BYTES_MOST, in_answer


class AnswerDocument:
    """The body of the last answer of one call, as long as it may be one short document."""

    def __init__(self, progress: Progress, key: str) -> None:
        self._progress = progress
        self._key = key
        self._kept = bytearray()
        self._headers: dict[str, str] = {}
        self._may_be = False

    def watch(self, response: Any) -> None:
        """Keep what is read of a ``httpx.Response``, or has been read of it."""
        self._kept.clear()
        self._may_be = response.status_code == 200
        if not self._may_be:
            return
        self._headers = dict(response.headers)
        if response.is_stream_consumed:
            self._keep(response.content)
            return
        read = response.aiter_bytes

        async def kept(chunk_size: int | None = None) -> AsyncIterator[bytes]:
            async for data in read(chunk_size):
                if self._may_be:
                    self._keep(data)
                yield data

        response.aiter_bytes = kept  # httpx reads lines and the whole by it, too

    def _keep(self, data: bytes) -> None:
        self._kept += data
        begun = self._kept.lstrip()
        self._may_be = not begun or (begun.startswith(b"{") and len(begun) <= ERROR_BYTES_MOST)
        if not self._may_be:
            self._kept.clear()

    @property
    def failure(self) -> CallFailedError | None:
        """The failure that the document tells; None if there is none, or it tells none."""
        body = self._kept.decode(errors="replace")
        has_begun = self._progress.first_token_at is not None
        return in_answer(body, self._headers, self._key, has_begun=has_begun)


watched: ContextVar[AnswerDocument | None] = ContextVar("watched", default=None)
"""Who keeps the answers of the call that is being made."""


@contextmanager
def watching(progress: Progress, key: str) -> Iterator[AnswerDocument]:
    """Give the keeper of what is answered within."""
    document = AnswerDocument(progress, key)
    token = watched.set(document)
    try:
        yield document
    finally:
        watched.reset(token)
