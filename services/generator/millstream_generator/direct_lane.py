"""The direct lane: one aiohttp session for all OpenAI-compatible endpoints.

litellm spends milliseconds of processor time on a call; this lane some hundred microseconds. An
aiohttp session holds: a pool of httpx slows down with the square of the calls in flight.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson

from millstream_generator.completion import (
    CallFailedError,
    Completion,
    Progress,
    Prompt,
    priced,
    storable,
)
from millstream_generator.endpoints import Endpoint
from millstream_generator.failures import classify, from_response
from millstream_schemas.routes import Route
from millstream_schemas.slices import Usage

ERROR_BYTES_MOST = 20_000
EVENT_BYTES_MOST = 4_000_000


class DirectLane:
    """Streams completions from endpoints; close it at the end."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def complete(
        self, route: Route, endpoint: Endpoint, prompt: Prompt, progress: Progress
    ) -> Completion:
        """Return the whole answer of one streamed call.

        Raises:
            CallFailedError: no answer, in its category.
        """
        progress.started_at = time.monotonic()
        try:
            async with asyncio.timeout(route.timeout_s):
                return await self._stream(route, endpoint, prompt, progress)
        except TimeoutError as error:
            message = f"no whole answer within {route.timeout_s:g} s"
            raise CallFailedError("timeout", message) from error
        except (aiohttp.ClientError, OSError) as error:
            raise classify(error, endpoint.headers.get("Authorization", "")) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
                trust_env=True,
            )
        return self._session

    async def _stream(
        self, route: Route, endpoint: Endpoint, prompt: Prompt, progress: Progress
    ) -> Completion:
        headers = {**endpoint.headers, "Content-Type": "application/json"}
        if route.provider == "simulated":
            headers["X-Millstream-Batch"] = prompt.batch_id
        async with self._open().post(
            endpoint.url,
            data=orjson.dumps(_body(route, endpoint, prompt)),
            headers=headers,
            allow_redirects=False,
        ) as response:
            if response.status != 200:
                text = (await response.content.read(ERROR_BYTES_MOST)).decode(errors="replace")
                raise from_response(
                    response.status, text, response.headers, headers.get("Authorization", "")
                )
            answer = _Answer(progress)
            async for payload in _events(response.content, route.stall_s):
                answer.take(payload)
            return answer.completion(route)


def _body(route: Route, endpoint: Endpoint, prompt: Prompt) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": prompt.messages,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    wanted = {
        "max_tokens": prompt.max_tokens,
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "seed": prompt.seed,
        "response_format": prompt.response_format if route.structured else None,
    }
    for ours, value in wanted.items():
        if value is not None and ours in endpoint.names:
            body[endpoint.names[ours]] = value
    if route.provider == "local":
        body.update(prompt.extra)
    body.update(route.parameters)
    return body


async def _events(content: aiohttp.StreamReader, stall_s: float) -> AsyncIterator[bytes]:
    """Yield the data of each event of a server-sent event stream, up to ``[DONE]`` or its end."""
    waiting = b""
    while True:
        try:
            async with asyncio.timeout(stall_s):
                chunk = await content.readany()
        except TimeoutError as error:
            message = f"the answer stalled: no token for {stall_s:g} s"
            raise CallFailedError("timeout", message) from error
        *lines, waiting = (waiting + chunk).split(b"\n")
        if len(waiting) > EVENT_BYTES_MOST:
            raise CallFailedError("server", f"one event exceeds {EVENT_BYTES_MOST} bytes")
        for line in lines if chunk else [*lines, waiting]:
            if line.startswith(b"data:"):
                payload = line[5:].strip()
                if payload == b"[DONE]":
                    return
                yield payload
        if not chunk:
            return


class _Answer:
    """Puts an answer together from its chunks."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._parts: list[str] = []
        self._finish_reason: str | None = None
        self._request_id: str | None = None
        self._usage: dict[str, Any] = {}

    def take(self, payload: bytes) -> None:
        """Take one chunk; raises CallFailedError for one that is an error or no JSON object."""
        try:
            chunk = orjson.loads(payload)
        except ValueError as error:
            raise CallFailedError("server", "the stream holds an event that is no JSON") from error
        if not isinstance(chunk, dict):
            raise CallFailedError("server", "the stream holds an event that is no object")
        if chunk.get("error"):
            raise from_response(500, json.dumps(chunk), {}, "")
        self._request_id = self._request_id or chunk.get("id")
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            text = (choice.get("delta") or {}).get("content")
            if text:
                if self._progress.first_token_at is None:
                    self._progress.first_token_at = time.monotonic()
                self._progress.characters += len(text)
                self._parts.append(text)
            self._finish_reason = choice.get("finish_reason") or self._finish_reason

    def completion(self, route: Route) -> Completion:
        """Return the whole answer; raises CallFailedError when the stream broke off."""
        text = "".join(self._parts)
        if self._finish_reason is None and not text:
            raise CallFailedError("server", "the stream ended without an answer")
        return Completion(
            text, _short(self._finish_reason), self._used(route), _short(self._request_id)
        )

    def _used(self, route: Route) -> Usage:
        tokens_in = self._usage.get("prompt_tokens")
        tokens_out = self._usage.get("completion_tokens")
        started = self._progress.started_at
        first = self._progress.first_token_at
        return Usage(
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost_nano_usd=priced(route, tokens_in, tokens_out),
            latency_ms=round((time.monotonic() - started) * 1000, 3),
            first_token_ms=None if first is None else round((first - started) * 1000, 3),
        )


def _short(value: object) -> str | None:
    return None if value is None else storable(str(value))[:200]
