"""The chat-completions wire format as bytes: what an OpenAI-compatible server sends.

Every function is pure. `StreamEncoder` encodes the parts that all chunks of one answer share once,
so that a chunk costs one JSON string. The format follows the public description of the
chat-completions API: server-sent events with ``data: {chunk}``, ended by ``data: [DONE]``.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

SSE_CONTENT_TYPE = "text/event-stream"
DONE = b"data: [DONE]\n\n"

CREATED = 1_767_225_600
"""Unix seconds of 2026-01-01, sent as ``created``: the same request gives the same bytes."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer."""

    prompt_tokens: int
    completion_tokens: int

    def encode(self) -> bytes:
        """Return the JSON object that a completion or a last chunk carries."""
        return b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (
            self.prompt_tokens,
            self.completion_tokens,
            self.prompt_tokens + self.completion_tokens,
        )


def estimate_tokens(characters: int) -> int:
    """Return about how many tokens a text of so many characters takes: four to a token."""
    return -(-characters // 4)


@dataclass(frozen=True, slots=True)
class StreamEncoder:
    """Encodes the chunks of one streamed answer."""

    completion_id: str
    model: str
    _head: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        head = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,' % (
            orjson.dumps(self.completion_id),
            CREATED,
            orjson.dumps(self.model),
        )
        object.__setattr__(self, "_head", head)

    def content(self, text: str, *, first: bool = False) -> bytes:
        """Return the chunk that carries `text`; the first one also names the role."""
        role = b'"role":"assistant",' if first else b""
        return (
            self._head
            + b'"choices":[{"index":0,"delta":{'
            + role
            + b'"content":'
            + orjson.dumps(text)
            + b'},"finish_reason":null}]}\n\n'
        )

    def finish(self, reason: str) -> bytes:
        """Return the chunk that says why the answer ended."""
        return (
            self._head
            + b'"choices":[{"index":0,"delta":{},"finish_reason":'
            + orjson.dumps(reason)
            + b"}]}\n\n"
        )

    def usage(self, usage: Usage) -> bytes:
        """Return the chunk without choices that ``stream_options.include_usage`` asks for."""
        return self._head + b'"choices":[],"usage":' + usage.encode() + b"}\n\n"

    def end(self, reason: str, usage: Usage | None) -> bytes:
        """Return the last bytes of an answer: finish, usage if it was asked for, done."""
        counted = b"" if usage is None else self.usage(usage)
        return self.finish(reason) + counted + DONE


def completion_body(
    completion_id: str, model: str, text: str, finish_reason: str, usage: Usage
) -> bytes:
    """Return the body of an answer that isn't streamed."""
    return (
        b'{"id":%b,"object":"chat.completion","created":%d,"model":%b,"choices":[{"index":0,'
        b'"message":{"role":"assistant","content":%b},"finish_reason":%b}],"usage":%b}'
        % (
            orjson.dumps(completion_id),
            CREATED,
            orjson.dumps(model),
            orjson.dumps(text),
            orjson.dumps(finish_reason),
            usage.encode(),
        )
    )


def error_body(message: str, kind: str, code: str | None = None) -> bytes:
    """Return the body of a refused request; `kind` is what the API calls ``type``."""
    error = {"message": message, "type": kind, "param": None, "code": code}
    return orjson.dumps({"error": error})


def models_body(names: Sequence[str], owner: str) -> bytes:
    """Return the list of models under the given owner."""
    data = [
        {"id": name, "object": "model", "created": CREATED, "owned_by": owner} for name in names
    ]
    return orjson.dumps({"object": "list", "data": data})


def split_text(text: str, pieces: int) -> list[str]:
    """Cut `text` into at most `pieces` parts of nearly the same length, none of them empty.

    An empty text gives one empty part, since an answer always has a first chunk.
    """
    count = max(1, min(pieces, len(text)))
    cuts = [len(text) * index // count for index in range(count + 1)]
    return [text[start:end] for start, end in itertools.pairwise(cuts)]
