"""How providers write an answer: the OpenAI form with its variants, and Ollama's.

A `Wire` turns an answer into the bytes that one provider sends. All of them are pure. The forms
follow the providers' public API references.
"""

from typing import Any, Protocol

import orjson

from millstream.openai_wire import (
    SSE_CONTENT_TYPE,
    StreamEncoder,
    Usage,
    completion_body,
    error_body,
)

ANSWER_ID = "answer-0001"
"""The id of every scripted answer."""


class Wire(Protocol):
    """One provider's form; ``reason`` is what the OpenAI form calls finish_reason."""

    content_type: str

    def opening(self) -> bytes:
        """Return what comes before the first text."""

    def piece(self, text: str) -> bytes:
        """Return the event that carries ``text``."""

    def end(self, reason: str, usage: Usage) -> bytes:
        """Return what comes after the last text."""

    def failing(self, message: str) -> bytes:
        """Return the event by which an answer that has begun is given up as overloaded."""

    def refusal(self, status: int, message: str, /) -> bytes:
        """Return the body of a refused request."""

    def filtered(self) -> tuple[int, bytes] | None:
        """Return status and body of a prompt that is refused for its content; None: never is."""


def sse(data: Any, event: str | None = None) -> bytes:
    """Return one server-sent event."""
    name = f"event: {event}\n".encode() if event else b""
    return name + b"data: " + orjson.dumps(data) + b"\n\n"


class OpenAIWire:
    """Chat completions, as OpenAI and most others stream them."""

    content_type = SSE_CONTENT_TYPE
    _encoder = StreamEncoder(ANSWER_ID, "scripted")

    def opening(self) -> bytes:
        """Return the chunk that names the role."""
        return self._encoder.content("", first=True)

    def piece(self, text: str) -> bytes:
        """Return one chunk."""
        return self._encoder.content(text)

    def end(self, reason: str, usage: Usage) -> bytes:
        """Return the finish, the usage and the done mark."""
        return self._encoder.end(reason, usage)

    def failing(self, message: str) -> bytes:
        """Return an error where a chunk would be."""
        return b"data: " + error_body(message, "server_error") + b"\n\n"

    def refusal(self, _status: int, message: str) -> bytes:
        """Return the error object."""
        return error_body(message, "scripted_error")

    def filtered(self) -> tuple[int, bytes] | None:
        """Return OpenAI's refusal of a prompt."""
        words = "Your request was rejected as a result of our safety system."
        return 400, error_body(words, "invalid_request_error", "content_policy_violation")


class AzureWire(OpenAIWire):
    """Chat completions as Azure streams them: the same but for its content management."""

    def opening(self) -> bytes:
        """Return a chunk without choices, then the first one."""
        verdict = {"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False}}}
        head = {
            "id": "",
            "object": "",
            "created": 0,
            "model": "",
            "choices": [],
            "prompt_filter_results": [verdict],
        }
        return sse(head) + super().opening()

    def filtered(self) -> tuple[int, bytes] | None:
        """Return the refusal of Azure's content management policy."""
        error = {
            "message": "The response was filtered due to the prompt triggering Azure OpenAI's "
            "content management policy. Please modify your prompt and retry.",
            "type": None,
            "param": "prompt",
            "code": "content_filter",
            "status": 400,
            "innererror": {
                "code": "ResponsibleAIPolicyViolation",
                "content_filter_result": {"violence": {"filtered": True, "severity": "high"}},
            },
        }
        return 400, orjson.dumps({"error": error})


class WholeWire(OpenAIWire):
    """Chat completions in one JSON document, as Groq sends them: it streams none with a schema."""

    content_type = "application/json"

    def __init__(self) -> None:
        self._texts: list[str] = []

    def opening(self) -> bytes:
        """Return nothing: nothing is sent before the end."""
        self._texts.clear()
        return b""

    def piece(self, text: str) -> bytes:
        """Keep ``text`` for the end."""
        self._texts.append(text)
        return b""

    def end(self, reason: str, usage: Usage) -> bytes:
        """Return the whole answer."""
        body = completion_body(ANSWER_ID, "scripted", "".join(self._texts), reason, usage)
        return orjson.dumps({**orjson.loads(body), "service_tier": "on_demand"})


class OllamaWire:
    """Ollama's own API: one JSON document a line."""

    content_type = "application/x-ndjson"

    def opening(self) -> bytes:
        """Return nothing: an answer begins with its text."""
        return b""

    def piece(self, text: str) -> bytes:
        """Return one line."""
        return self._line({"response": text, "done": False})

    def end(self, reason: str, usage: Usage) -> bytes:
        """Return the line that counts the tokens."""
        counts = {"prompt_eval_count": usage.prompt_tokens, "eval_count": usage.completion_tokens}
        return self._line({"response": "", "done": True, "done_reason": reason, **counts})

    def failing(self, message: str) -> bytes:
        """Return an error where a line would be."""
        return orjson.dumps({"error": message}) + b"\n"

    def refusal(self, _status: int, message: str) -> bytes:
        """Return the error document."""
        return orjson.dumps({"error": message})

    def filtered(self) -> tuple[int, bytes] | None:
        """Return None: Ollama filters nothing."""
        return None

    @staticmethod
    def _line(fields: dict[str, Any]) -> bytes:
        line = {"model": "scripted", "created_at": "2026-01-01T00:00:00Z", **fields}
        return orjson.dumps(line) + b"\n"
