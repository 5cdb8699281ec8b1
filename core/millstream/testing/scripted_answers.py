"""The answers that `ScriptedLLM` can give, and how each is sent."""

import asyncio
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from aiohttp import web

from millstream.openai_wire import (
    SSE_CONTENT_TYPE,
    StreamEncoder,
    Usage,
    completion_body,
    error_body,
    estimate_tokens,
    split_text,
)


@dataclass(frozen=True, slots=True)
class Ok:
    """A whole answer; a dict is sent as JSON text. ``usage`` None means four letters a token."""

    content: str | Mapping[str, Any]
    finish_reason: str = "stop"
    chunks: int = 4
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """The text of the answer."""
        if isinstance(self.content, str):
            return self.content
        return orjson.dumps(self.content).decode()


@dataclass(frozen=True, slots=True)
class HttpError:
    """A refused request; without a body one in the form of the API is made."""

    status: int
    body: str | Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stall:
    """A stream that sends the first chunks of `content` and then nothing, until it is cancelled."""

    after_chunks: int = 0
    content: str = "This answer stops in the mid"


@dataclass(frozen=True, slots=True)
class Disconnect:
    """A stream whose connection breaks after the first chunks.

    ``after_chunks`` None: before the answer's first byte. ``is_reset``: by a reset, not a close.
    """

    after_chunks: int | None = 1
    content: str = "This answer breaks off in the mid"
    is_reset: bool = False


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes that aren't a chat completion, sent with status 200."""

    body: bytes = b"data: {not json\n\n\x00\xff\n\n"
    content_type: str = SSE_CONTENT_TYPE


@dataclass(frozen=True, slots=True)
class Delayed:
    """Another answer, held back for a time and until an event is set."""

    answer: "Answer"
    delay_s: float = 0.0
    until: asyncio.Event | None = None


Answer = Ok | HttpError | Stall | Disconnect | Garbage | Delayed


@dataclass(slots=True)
class Request:
    """One recorded request; times are seconds of the event loop's monotonic clock.

    The value of the authorization header is never kept, only that one was sent.
    """

    index: int
    path: str
    headers: Mapping[str, str]
    authorization_sent: bool
    body: Any
    started_at: float
    finished_at: float | None = None
    cancelled_at: float | None = None

    @property
    def outcome(self) -> Literal["open", "finished", "cancelled"]:
        """Whether the answer is still under way, was sent whole, or lost its caller."""
        if self.cancelled_at is not None:
            return "cancelled"
        return "open" if self.finished_at is None else "finished"


def json_response(
    body: bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a response whose body is JSON already."""
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


async def play(answer: Answer, http: web.BaseRequest, request: Request) -> web.StreamResponse:
    """Send one answer.

    Raises:
        asyncio.CancelledError: the caller went away, or the server stops.
        ConnectionError: the caller went away in the middle of a write.
    """
    match answer:
        case Delayed():
            await asyncio.sleep(answer.delay_s)
            if answer.until is not None:
                await answer.until.wait()
            return await play(answer.answer, http, request)
        case HttpError():
            return _refusal(answer)
        case Garbage():
            return web.Response(body=answer.body, content_type=answer.content_type)
        case Stall():
            await _open_stream(http, request, answer)
            return await _never()
        case Disconnect(None):
            return hang_up(http, answer, web.Response())
        case Disconnect():
            # The length was never announced, so a closed connection is a broken answer.
            return hang_up(http, answer, await _open_stream(http, request, answer))
        case Ok():
            return await _complete(answer, http, request)


def hang_up(
    http: web.BaseRequest, answer: Disconnect, response: web.StreamResponse
) -> web.StreamResponse:
    """Close the connection as ``answer`` says; what is left of ``response`` is never sent."""
    if http.transport is not None:
        if answer.is_reset:
            connection = http.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        http.transport.close()
    return response


def _refusal(answer: HttpError) -> web.Response:
    if isinstance(answer.body, str):
        body = answer.body.encode()
    elif answer.body is None:
        body = error_body(f"Scripted error {answer.status}", "scripted_error")
    else:
        body = orjson.dumps(answer.body)
    return json_response(body, answer.status, answer.headers)


async def _never() -> web.StreamResponse:
    """Wait until the handler is cancelled."""
    never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
    return await never


def _encoder(request: Request) -> StreamEncoder:
    return StreamEncoder(f"chatcmpl-scripted-{request.index}", _model(request))


def _model(request: Request) -> str:
    return str(request.body.get("model", "scripted"))


async def _open_stream(
    http: web.BaseRequest, request: Request, answer: Stall | Disconnect
) -> web.StreamResponse:
    """Start a stream and send its first chunks."""
    response = web.StreamResponse(headers={"Content-Type": SSE_CONTENT_TYPE})
    await response.prepare(http)
    encoder = _encoder(request)
    # One piece more than is sent: what is missing is never empty.
    sent = answer.after_chunks or 0
    pieces = split_text(answer.content, sent + 1)
    for index, piece in enumerate(pieces[:sent]):
        await response.write(encoder.content(piece, first=not index))
    return response


async def _complete(answer: Ok, http: web.BaseRequest, request: Request) -> web.StreamResponse:
    """Send a whole answer in the form that was asked for."""
    prompt = estimate_tokens(len(orjson.dumps(request.body.get("messages", []))))
    usage = answer.usage or Usage(prompt, estimate_tokens(len(answer.text)))
    encoder = _encoder(request)
    if not request.body.get("stream"):
        return json_response(
            completion_body(
                encoder.completion_id, encoder.model, answer.text, answer.finish_reason, usage
            )
        )
    response = web.StreamResponse(headers={"Content-Type": SSE_CONTENT_TYPE})
    await response.prepare(http)
    for index, piece in enumerate(split_text(answer.text, answer.chunks)):
        await response.write(encoder.content(piece, first=not index))
    wants_usage = (request.body.get("stream_options") or {}).get("include_usage")
    await response.write_eof(encoder.end(answer.finish_reason, usage if wants_usage else None))
    return response
