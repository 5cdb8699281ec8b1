"""Watches what litellm sends and is answered in one call.

One attempt is one request: litellm sends some anew by itself, when a connection breaks or when it
has left parameters out after a 422; each may be paid, and no budget would know of it.

Some proxies answer 200 and tell in a JSON document what went wrong behind them. litellm's readers
take it for an empty stream, or fail in words of their own.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from millstream_generator.completion import CallFailedError, Completion, Progress
from millstream_generator.direct_lane import EVENT_BYTES_MOST, DirectAnswer
from millstream_generator.failures import (
    ERROR_BYTES_MOST,
    from_response,
    in_answer,
    no_stream,
)
from millstream_generator.litellm_failures import classify, names_of, unsendable
from millstream_schemas.routes import Route


class SentAlreadyError(Exception):
    """The request was sent before, and its answer refused it: it is not sent again."""


class AnswerDocument:
    """The body of the last answer of one call, as long as it may be one document."""

    def __init__(self, progress: Progress, key: str) -> None:
        self._progress = progress
        self._key = key
        self._sent: dict[tuple[str, str], Exception | None] = {}
        self._forget()

    def _forget(self) -> None:
        """Know nothing of an answer: the next request may get none."""
        self._kept = bytearray()
        self._status = 0
        self._headers: dict[str, str] = {}
        self._may_be = False
        self._first_end = 0
        """Where the first line ends; 0: it has not."""
        self._is_one_document = False
        """Whether a second line was seen, and the first one is no document by itself."""
        self._unsendable: CallFailedError | None = None

    async def send(self, request: Any, send: Callable[[], Awaitable[Any]]) -> Any:
        """Send a ``httpx.Request``, and watch its response; a POST is sent once only.

        Raises:
            SentAlreadyError: it was answered before.
            Exception: what ``send`` raises, or has raised of the same request before.
        """
        # Beside the call itself some providers are asked for a token, at another address.
        target = (request.method, str(request.url))
        if request.method == "POST" and target in self._sent:
            raise self._sent[target] or SentAlreadyError
        self._sent[target] = None
        self._forget()
        try:
            response = await send()
        except Exception as error:
            self._sent[target] = error
            self._unsendable = unsendable(error, request.url.netloc.decode())
            raise
        self.watch(response)
        return response

    def watch(self, response: Any) -> None:
        """Keep what is read of a ``httpx.Response``, or has been read of it."""
        self._forget()
        self._status, self._headers = response.status_code, dict(response.headers)
        self._may_be = True
        if response.is_stream_consumed:
            self._keep(response.content)
            return
        read = response.aiter_bytes

        async def kept(chunk_size: int | None = None) -> AsyncIterator[bytes]:
            is_first = True
            async for piece in read(chunk_size):
                # A byte order mark would hide a stream's first event.
                data = piece.removeprefix(b"\xef\xbb\xbf") if is_first else piece
                is_first = False
                if self._may_be:
                    self._keep(data)
                yield data

        response.aiter_bytes = kept  # httpx reads lines and the whole by it, too

    def _keep(self, data: bytes) -> None:
        before = len(self._kept)
        self._kept += data if before else data.lstrip()
        if not self._kept:
            return
        may_be_whole = self._status == 200 and self._kept.startswith(b"{")
        most = EVENT_BYTES_MOST if may_be_whole else ERROR_BYTES_MOST
        self._may_be = len(self._kept) <= most
        if self._status != 200 or self._kept.startswith(b"<"):
            return  # to be told, and of that the beginning is enough
        if not may_be_whole or not self._may_be or self._is_lines(before):
            self._may_be = False
            self._kept.clear()

    def _is_lines(self, before: int) -> bool:
        """Tell, once a second line has begun, whether each is a document of its own.

        ``before`` bytes were looked at before.
        """
        if self._is_one_document:
            return False
        if not self._first_end:
            self._first_end = self._kept.find(b"\n", before) + 1
        if not self._first_end or not self._kept[max(self._first_end, before) :].strip():
            return False
        self._is_one_document = not _is_json(self._kept[: self._first_end])
        return not self._is_one_document

    def failure(self, error: BaseException | None = None) -> CallFailedError | None:
        """Return the failure that the answer tells; None if there is none, or it tells none.

        ``error`` is what litellm made of it: it knows what some providers mean by a refusal.
        """
        is_whole = self._status == 200 and self._kept.startswith(b"{")
        body = (self._kept if is_whole else self._kept[:ERROR_BYTES_MOST]).decode(errors="replace")
        if self._status == 200:
            has_begun = self._progress.first_token_at is not None
            told = in_answer(body, self._headers, self._key, has_begun=has_begun)
            if told is None and body and not has_begun and _leaves_open(error):
                told = no_stream(body, self._headers, self._key)
            return told
        if self._status == 0:
            return self._unsendable
        names = set() if error is None else names_of(error)
        return from_response(self._status, body, self._headers, self._key, names=names)

    def completion(self, route: Route) -> Completion | None:
        """Return the answer, where it came as one whole completion in OpenAI's form; else None."""
        try:
            found = json.loads(self._kept)["choices"][0]["message"]["content"]
        except (ValueError, RecursionError, LookupError, TypeError):
            return None
        if not found or self._status != 200:
            return None
        answer = DirectAnswer(self._progress, self._key)
        answer.begin(self._status, self._headers)
        answer.feed(bytes(self._kept))
        return answer.completion(route)


def _leaves_open(error: BaseException | None) -> bool:
    """Tell whether a call failed by what its answer holds: in time, over a connection that held."""
    if error is None:
        return False
    failure = error if isinstance(error, CallFailedError) else classify(error)
    return failure.link is None and failure.category != "timeout"


def _is_json(text: bytes | bytearray) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


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
