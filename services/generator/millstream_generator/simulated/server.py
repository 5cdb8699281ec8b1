"""The HTTP face of the simulated model: chat completions, models, health and counters."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TypeVar

import orjson
from aiohttp import web

from millstream.openai_wire import (
    SSE_CONTENT_TYPE,
    StreamEncoder,
    completion_body,
    error_body,
    models_body,
    split_text,
)
from millstream_generator.simulated.chat import (
    Answer,
    BadRequestError,
    ChatRequest,
    RequestReader,
    answer,
)
from millstream_generator.simulated.profiles import FIRST_TOKEN_SHARE, PROFILES

RETRY_AFTER_S = 1
SHUTDOWN_S = 0.3
MAX_REMEMBERED = 10_000
QUICK_S = 0.1
"""A model that answers in so little time sends nothing before its first token."""
BATCH_HEADER = "X-Millstream-Batch"
_SSE_HEADERS = {"Content-Type": SSE_CONTENT_TYPE, "Cache-Control": "no-cache"}

Key = TypeVar("Key")
Value = TypeVar("Value")
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Stats:
    """Counters of completions since the start: started = finished + cancelled + failed + in flight.

    ``failed`` counts refused requests and answers that a profile spoilt; ``cancelled`` those whose
    client went away before the end.
    """

    started: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    in_flight: int = 0
    in_flight_max: int = 0

    def enter(self) -> None:
        """Count a request that arrived."""
        self.started += 1
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)


class SimulatedServer:
    """An OpenAI-compatible server that answers by profile and seed.

    The profile ``stall`` counts its answers per stream of requests: those with the same
    ``X-Millstream-Batch`` header, else the same ``user`` field, else all others together.
    A rate limit is over once its ``Retry-After`` has passed, as it is at a real provider; every
    other failure comes back whenever the same bytes are sent again.
    """

    def __init__(self) -> None:
        self.stats = Stats()
        self._reader = RequestReader()
        self._answered: dict[str, int] = {}
        self._limited_until: dict[bytes, float] = {}
        self._routes: Mapping[tuple[str, str], Handler] = {
            ("POST", "/v1/chat/completions"): self._complete,
            ("GET", "/v1/models"): self._models,
            ("GET", "/health"): self._health,
            ("GET", "/stats"): self._show_stats,
        }
        # No application and no router: four fixed paths need neither, and each request is cheaper.
        self._runner = web.ServerRunner(
            web.Server(self._handle, handler_cancellation=True, access_log=None),
            shutdown_timeout=SHUTDOWN_S,
        )

    async def start(self, host: str, port: int) -> str:
        """Listen on the address and return the base URL; port 0 takes a free one.

        Raises:
            OSError: the address can't be bound.
        """
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, backlog=1024).start()
        bound = self._runner.addresses[0][1]
        return f"http://{f'[{host}]' if ':' in host else host}:{bound}"

    async def stop(self) -> None:
        """Stop listening, give answers a moment to end, then cut the rest off."""
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        handler = self._routes.get((request.method, request.path))
        if handler is None:
            message = f"{request.method} {request.path}: no such endpoint"
            return _refusal(404, message, "invalid_request_error", "not_found")
        return await handler(request)

    async def _models(self, _request: web.BaseRequest) -> web.Response:
        return _json(models_body(list(PROFILES), "millstream-simulated"))

    async def _health(self, _request: web.BaseRequest) -> web.Response:
        return _json(b'{"status":"ok"}')

    async def _show_stats(self, _request: web.BaseRequest) -> web.Response:
        return _json(orjson.dumps(asdict(self.stats)))

    async def _complete(self, request: web.BaseRequest) -> web.StreamResponse:
        stats = self.stats
        stats.enter()
        try:
            chat = self._reader.read(await request.read())
            response, is_clean = await self._play(request, chat)
        except BadRequestError as error:
            stats.failed += 1
            return _refusal(error.status, str(error), "invalid_request_error", error.code)
        except (asyncio.CancelledError, ConnectionError):
            # aiohttp cancels the handler as soon as its client has gone.
            stats.cancelled += 1
            raise
        finally:
            stats.in_flight -= 1
        if is_clean:
            stats.finished += 1
        else:
            stats.failed += 1
        return response

    async def _play(
        self, request: web.BaseRequest, chat: ChatRequest
    ) -> tuple[web.StreamResponse, bool]:
        """Answer one request; also return whether the answer was a good one."""
        started = asyncio.get_running_loop().time()
        if chat.profile.answers_before_stall is not None and self._is_used_up(request, chat):
            await _never(request, chat, b"")
        failure = chat.failure
        if failure == "rate_limited" and not self._is_limited(chat.fingerprint, started):
            failure = None
        if failure in {"rate_limited", "server_error", "overloaded"}:
            await _until(started + chat.profile.latency_s * FIRST_TOKEN_SHARE)
            return _FAILURES[failure](), False
        reply = answer(chat, failure)
        if failure == "stalled_stream":
            first = split_text(reply.text, chat.profile.chunks)[0]
            await _never(request, chat, _encoder(chat).content(first, first=True))
        if chat.stream:
            return await _stream(request, chat, reply, started), failure is None
        await _until(started + chat.profile.latency_s)
        body = completion_body(
            _completion_id(chat), chat.model, reply.text, reply.finish_reason, reply.usage
        )
        return _json(body), failure is None

    def _is_used_up(self, request: web.BaseRequest, chat: ChatRequest) -> bool:
        stream = request.headers.get(BATCH_HEADER) or chat.user
        answered = self._answered.get(stream, 0)
        if answered >= (chat.profile.answers_before_stall or 0):
            return True
        _remember(self._answered, stream, answered + 1)
        return False

    def _is_limited(self, fingerprint: bytes, now: float) -> bool:
        until = self._limited_until.get(fingerprint)
        if until is None:
            until = now + RETRY_AFTER_S
            _remember(self._limited_until, fingerprint, until)
        return now < until


def _remember(memory: dict[Key, Value], key: Key, value: Value) -> None:
    """Set an entry, dropping the oldest one when the memory is full."""
    memory[key] = value
    if len(memory) > MAX_REMEMBERED:
        del memory[next(iter(memory))]


def _json(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)


def _refusal(status: int, message: str, kind: str, code: str | None) -> web.Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 429 else None
    return _json(error_body(message, kind, code), status, headers)


_FAILURES: Mapping[str, Callable[[], web.Response]] = {
    "rate_limited": lambda: _refusal(
        429, "Rate limit reached; try again later", "rate_limit_error", "rate_limit_exceeded"
    ),
    "server_error": lambda: _refusal(
        500, "The server had an error", "server_error", "internal_error"
    ),
    "overloaded": lambda: _refusal(503, "The model is overloaded", "server_error", "overloaded"),
}


async def _until(deadline: float) -> None:
    delay = deadline - asyncio.get_running_loop().time()
    if delay > 0:
        await asyncio.sleep(delay)


def _completion_id(chat: ChatRequest) -> str:
    return f"chatcmpl-{chat.fingerprint.hex()}"


def _encoder(chat: ChatRequest) -> StreamEncoder:
    return StreamEncoder(_completion_id(chat), chat.model)


async def _never(request: web.BaseRequest, chat: ChatRequest, opening: bytes) -> None:
    """Keep the connection open without another token until the client goes away."""
    if chat.stream:
        response = web.StreamResponse(headers=_SSE_HEADERS)
        await response.prepare(request)
        if opening:
            await response.write(opening)
    await asyncio.get_running_loop().create_future()


class _QuickStream(web.StreamResponse):
    """Sends its headers together with the first token.

    A write of its own for them would cost both sides a tenth of what a call takes.
    """

    _send_headers_immediately = False


async def _stream(
    request: web.BaseRequest, chat: ChatRequest, reply: Answer, started: float
) -> web.StreamResponse:
    """Send the answer in chunks: the first after its share of the latency, then evenly."""
    profile, encoder = chat.profile, _encoder(chat)
    pieces = split_text(reply.text, profile.chunks)
    chunks = [encoder.content(piece, first=not index) for index, piece in enumerate(pieces)]
    chunks[-1] += encoder.end(reply.finish_reason, reply.usage if chat.include_usage else None)
    if profile.latency_s == 0:
        # One write: with no time between the chunks there is nothing to wait for.
        return web.Response(body=b"".join(chunks), headers=_SSE_HEADERS)
    is_quick = profile.latency_s <= QUICK_S
    response = (_QuickStream if is_quick else web.StreamResponse)(headers=_SSE_HEADERS)
    await response.prepare(request)
    first_s = profile.latency_s * FIRST_TOKEN_SHARE
    gap_s = (profile.latency_s - first_s) / max(len(chunks) - 1, 1)
    # A caller that goes away in mid-answer is no fault of this server.
    with contextlib.suppress(ConnectionResetError):
        for index, chunk in enumerate(chunks[:-1]):
            await _until(started + first_s + index * gap_s)
            await response.write(chunk)
        await _until(started + profile.latency_s)
        await response.write_eof(chunks[-1])
    return response
