"""One chat request of the simulated model: its parts, and the answer that its seed decides."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from millstream.openai_wire import Usage, estimate_tokens
from millstream_generator.simulated.profiles import PROFILES, Failure, Profile, profile_named
from millstream_generator.simulated.shapes import Shape, UnsupportedSchemaError, compile_shape
from millstream_generator.simulated.text import Draw, prose, topics_of

MAX_SHAPES = 4096


class BadRequestError(ValueError):
    """The request can't be answered; carries the HTTP status and the error code to send."""

    def __init__(self, message: str, *, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request for one completion; ``fingerprint`` identifies its exact bytes."""

    profile: Profile
    model: str
    messages: list[dict[str, Any]]
    seed: object
    shape: Shape | None
    stream: bool
    include_usage: bool
    max_tokens: int | None
    user: str
    fingerprint: bytes

    @property
    def failure(self) -> Failure | None:
        """What goes wrong with this request; the same bytes always draw the same number."""
        if not self.profile.failures:
            return None
        return self.profile.failure(int.from_bytes(self.fingerprint[:7], "big") / (1 << 56))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a completion says, why it ends and what it counts."""

    text: str
    finish_reason: str
    usage: Usage


class RequestReader:
    """Reads request bodies and keeps the compiled schemas of the last ones."""

    def __init__(self) -> None:
        self._shapes: dict[bytes, Shape] = {}

    def read(self, body: bytes) -> ChatRequest:
        """Return the request in `body`.

        Raises:
            BadRequestError: a field is missing, wrong or not simulated; the message names it.
        """
        try:
            fields = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise BadRequestError(f"body: not JSON ({error}); send a JSON object") from error
        if not isinstance(fields, dict):
            raise BadRequestError("body: not a JSON object; send one with model and messages")
        model = fields.get("model")
        profile = profile_named(model) if isinstance(model, str) else None
        if profile is None:
            raise BadRequestError(
                f"model: {model!r} isn't simulated; use {', '.join(PROFILES)} or custom-<ms>",
                status=404,
                code="model_not_found",
            )
        if fields.get("n", 1) not in (1, None):
            raise BadRequestError(f"n: {fields['n']!r} isn't simulated; ask for one completion")
        options = fields.get("stream_options")
        return ChatRequest(
            profile=profile,
            model=profile.name,
            messages=_messages(fields),
            seed=fields.get("seed"),
            shape=self._shape(fields.get("response_format")),
            stream=bool(fields.get("stream")),
            include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
            max_tokens=_max_tokens(fields),
            user=str(fields.get("user") or ""),
            fingerprint=blake2b(body, digest_size=16).digest(),
        )

    def _shape(self, response_format: Any) -> Shape | None:
        if not isinstance(response_format, dict) or response_format.get("type") != "json_schema":
            return None
        wrapper = response_format.get("json_schema")
        schema = wrapper.get("schema") if isinstance(wrapper, dict) else None
        if not isinstance(schema, dict):
            raise BadRequestError("response_format.json_schema.schema: missing; send a JSON schema")
        key = orjson.dumps(schema)
        shape = self._shapes.get(key)
        if shape is None:
            shape = _compiled(schema)
            if len(self._shapes) >= MAX_SHAPES:
                self._shapes.clear()
            self._shapes[key] = shape
        return shape


def _compiled(schema: Mapping[str, Any]) -> Shape:
    try:
        return compile_shape(schema)
    except UnsupportedSchemaError as error:
        raise BadRequestError(f"response_format: {error}", code="invalid_schema") from error
    except (TypeError, ValueError, AttributeError) as error:
        # A keyword holds a value of the wrong type, such as a word for minLength.
        raise BadRequestError(
            f"response_format: not a valid JSON schema ({error})", code="invalid_schema"
        ) from error


def _messages(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequestError("messages: missing or empty; send at least one message")
    if not all(isinstance(message, dict) and "role" in message for message in messages):
        raise BadRequestError("messages: each one must be an object with role and content")
    return messages


def _max_tokens(fields: Mapping[str, Any]) -> int | None:
    limit = fields.get("max_completion_tokens") or fields.get("max_tokens")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise BadRequestError(f"max_tokens: {limit!r} isn't a whole number above 0")
    return limit


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def answer(request: ChatRequest, failure: Failure | None = None) -> Answer:
    """Return the answer to a request, spoilt as `failure` says.

    The text depends on the model, the seed and the messages alone.
    """
    messages = orjson.dumps(request.messages)
    key = b"%b\0%b\0%b" % (
        request.model.encode(),
        orjson.dumps(request.seed, default=str),
        messages,
    )
    unit = random.Random(  # noqa: S311 - text, not secrets.
        int.from_bytes(blake2b(key, digest_size=8).digest(), "big")
    ).random
    shape = request.shape
    topics = shape.topics if shape is not None and shape.topics else ()
    draw = Draw(unit, topics or topics_of(_content(request.messages[-1])))
    value = prose(draw, 300) if shape is None else shape.make(draw)
    text, reason = _spoilt(value, failure)
    if request.max_tokens is not None and len(text) > request.max_tokens * 4:
        text, reason = text[: request.max_tokens * 4], "length"
    usage = Usage(estimate_tokens(len(messages)), estimate_tokens(len(text)))
    return Answer(text, reason, usage)


def _spoilt(value: Any, failure: Failure | None) -> tuple[str, str]:
    """Return the text and finish reason of an answer after `failure` had its way with it."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    match failure:
        case "garbage":
            return "<|reserved_17|> ]]}{{ ~~ " + text[: len(text) // 3][::-1], "stop"
        case "half_json":
            return text[: len(text) // 2], "stop"
        case "nul":
            return _with_nul(value), "stop"
        case "length":
            return text[: len(text) * 2 // 3], "length"
        case "content_filter":
            return "", "content_filter"
        case _:
            return text, "stop"


def _with_nul(value: Any) -> str:
    """Return the answer with a NUL inside each of its strings."""
    if isinstance(value, str):
        return f"{value[: len(value) // 2]}\0{value[len(value) // 2 :]}"
    if isinstance(value, dict):
        value = {
            name: _with_nul(item) if isinstance(item, str) else item for name, item in value.items()
        }
    return orjson.dumps(value).decode()
