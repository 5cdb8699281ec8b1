"""The direct lane: streams completions straight from OpenAI-compatible endpoints.

litellm spends milliseconds of processor time on a call; this lane about a tenth of one.
"""

import json
import time
from collections.abc import Mapping
from typing import Any

import orjson

from millstream_generator.completion import (
    ANSWER_CHARACTERS_MOST,
    CallFailedError,
    Completion,
    Progress,
    Prompt,
    priced,
    storable,
    told_tokens,
)
from millstream_generator.endpoints import Endpoint
from millstream_generator.failures import (
    ERROR_BYTES_MOST,
    Keys,
    from_response,
    in_answer,
    no_stream,
    safe_message,
)
from millstream_generator.http_client import HttpClient
from millstream_schemas.routes import Route
from millstream_schemas.slices import Usage

EVENT_BYTES_MOST = 4_000_000
PAYLOAD_BYTES_MOST = 200
"""So much of an event that can't be read is told."""
WORDS_BYTES_MOST = 2000
"""So much of what is no stream is looked at, to tell what came."""
_MARK = b"\xef\xbb\xbf"
"""A byte order mark, which may begin a stream."""


class DirectLane:
    """Streams completions from endpoints; close it at the end."""

    def __init__(self) -> None:
        self._client = HttpClient()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def complete(
        self, route: Route, endpoint: Endpoint, prompt: Prompt, progress: Progress
    ) -> Completion:
        """Return the whole answer of one streamed call.

        Raises:
            CallFailedError: no answer, in its category.
        """
        progress.started_at = time.monotonic()
        answer = DirectAnswer(progress, endpoint.keys)
        batch = f"X-Millstream-Batch: {prompt.batch_id}" if route.provider == "simulated" else ""
        try:
            await self._client.post(
                endpoint.target,
                _encoded(_body(route, endpoint, prompt)),
                answer,
                timeout_s=route.timeout_s,
                stall_s=route.stall_s,
                header=batch.encode(),
            )
        except CallFailedError as failure:
            failure.message = safe_message(failure.message, endpoint.keys)
            raise
        return answer.completion(route)


def _encoded(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # an integer beyond 64 bits; a recipe's schema may hold such
        return json.dumps(body).encode()


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


class DirectAnswer:
    """Puts an answer together from a stream of server-sent events, or an error from its body."""

    def __init__(self, progress: Progress, key: Keys) -> None:
        self.is_done = False
        self._progress = progress
        self._key = key
        self._status = 0
        self._headers: Mapping[str, str] = {}
        self._is_stream = False  # known with the first bytes
        self._waiting = bytearray()
        self._first = b""
        self._parts: list[str] = []
        self._refusal = ""
        self._finish_reason: object = None
        self._request_id: object = None
        self._usage: dict[str, Any] = {}

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Take status and headers."""
        self._status, self._headers = status, headers

    def feed(self, data: bytes) -> None:
        """Take the next bytes: whole lines are read at once, the rest waits for its line's end."""
        self._waiting += data
        if not self._is_stream and not self._is_begun_stream():
            return
        if b"\n" not in data:
            if b"\r" not in data:
                self._bound_waiting()
                return
            self._waiting = self._waiting.replace(b"\r", b"\n")  # it ends a line, too
        *lines, left = self._waiting.split(b"\n")
        self._waiting = left
        for line in lines:
            self._take_line(line)

    def _is_begun_stream(self) -> bool:
        """Look at the first bytes: a stream, or one document in its place, which is read whole."""
        if self._status != 200:
            self.is_done = len(self._waiting) >= ERROR_BYTES_MOST
            return False
        if not self._first:
            if _MARK.startswith(bytes(self._waiting[:4])):
                return False  # less than it, or nothing after it
            self._waiting = self._waiting.removeprefix(_MARK)
            begun = self._waiting.lstrip()
            self._first = bytes(begun[:WORDS_BYTES_MOST])
            self._is_stream = bool(begun) and not begun.startswith((b"{", b"<"))
        if not self._is_stream:
            self._bound_waiting()
        return self._is_stream

    def _bound_waiting(self) -> None:
        if len(self._waiting) > EVENT_BYTES_MOST:
            raise CallFailedError("server", f"one event exceeds {EVENT_BYTES_MOST} bytes")

    def _take_line(self, line: bytearray) -> None:
        if line.startswith(b"data:") and not self.is_done:
            payload = line[5:].strip()
            if payload == b"[DONE]":
                self.is_done = True
            else:
                self._take_event(payload)

    def _take_event(self, payload: bytearray) -> None:
        try:
            chunk = orjson.loads(payload)
        except ValueError as error:
            if not payload:
                return
            raise _odd("the stream holds an event that is no JSON", payload) from error
        if not isinstance(chunk, dict):
            return  # holds nothing of an answer, as a keep-alive does
        try:
            if chunk.get("error"):
                self._raise_told(payload.decode(errors="replace"))
            self._request_id = self._request_id or chunk.get("id")
            self._usage = chunk.get("usage") or self._usage
            for choice in chunk.get("choices") or ():
                if choice.get("index"):
                    continue  # one answer is asked for: what else comes is another one
                # A server that does not stream sends all at once, as a message.
                delta = choice.get("delta") or choice.get("message") or {}
                text = delta.get("content")
                if text:
                    self._take_text(text)
                elif delta.get("refusal"):
                    self._refusal += delta["refusal"]
                self._finish_reason = choice.get("finish_reason") or self._finish_reason
        except (AttributeError, TypeError) as error:
            message = "the stream holds an event that is no completion chunk"
            raise _odd(message, payload) from error

    def _raise_told(self, body: str) -> None:
        """Raise the error that an answer of status 200 tells in its body, if it does."""
        has_begun = self._progress.first_token_at is not None
        told = in_answer(body, self._headers, self._key, has_begun=has_begun)
        if told is not None:
            raise told

    def _take_text(self, text: str) -> None:
        progress = self._progress
        if progress.first_token_at is None:
            progress.first_token_at = time.monotonic()
        self._parts.append(text)
        progress.characters += len(text)
        self.is_done = progress.characters > ANSWER_CHARACTERS_MOST

    def completion(self, route: Route) -> Completion:
        """Return the whole answer.

        Raises:
            CallFailedError: the endpoint refused, or the stream broke off.
        """
        if self._status != 200:
            words = bytes(self._waiting[:ERROR_BYTES_MOST]).decode(errors="replace")
            raise from_response(self._status, words, self._headers, self._key)
        if self._first and not self._is_stream:
            self._raise_told(self._waiting.decode(errors="replace"))
            self._take_event(self._waiting)
        else:
            self._take_line(self._waiting)  # a last line need not be ended
        text = self._text()
        if not text and self._refusal:
            text, self._finish_reason = self._refusal, "content_filter"
        if self._finish_reason is None and not self.is_done:
            if text:
                message = "the stream broke off in the middle of an answer"
                raise CallFailedError("server", message, status_code=200)
            raise no_stream(self._first.decode(errors="replace"), self._headers, self._key)
        return Completion(
            text, _short(self._finish_reason), self._used(route), _short(self._request_id)
        )

    def _text(self) -> str:
        try:
            return "".join(self._parts)
        except TypeError:  # a content may come in parts
            try:
                return "".join(one if isinstance(one, str) else _plain(one) for one in self._parts)
            except (AttributeError, TypeError) as error:
                message = "the answer's content is no text"
                raise CallFailedError("server", message, status_code=200) from error

    def _used(self, route: Route) -> Usage:
        used = self._usage if isinstance(self._usage, dict) else {}
        tokens_in = told_tokens(used.get("prompt_tokens"))
        tokens_out = told_tokens(used.get("completion_tokens"))
        started = self._progress.started_at
        first = self._progress.first_token_at
        return Usage(
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost_nano_usd=priced(route, tokens_in, tokens_out),
            latency_ms=round((time.monotonic() - started) * 1000, 3),
            first_token_ms=None if first is None else round((first - started) * 1000, 3),
        )


def _plain(content: Any) -> str:
    """Return the text of a content in parts, as some send it; raises TypeError of any other."""
    return "".join(part.get("text") for part in content if part.get("type") == "text")


def _odd(message: str, payload: bytearray) -> CallFailedError:
    """Return the failure of an answer that holds ``payload``."""
    words = safe_message(payload[:PAYLOAD_BYTES_MOST].decode(errors="replace"))
    return CallFailedError("server", f"{message}: {words}", status_code=200)


def _short(value: object) -> str | None:
    return None if value is None else storable(str(value))[:200]
