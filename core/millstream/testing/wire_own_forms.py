"""How Anthropic, Gemini, Cohere and Bedrock write a streamed answer; see `wire_forms.Wire`."""

import binascii
import struct
from typing import Any

import orjson

from millstream.openai_wire import SSE_CONTENT_TYPE, Usage
from millstream.testing.wire_forms import ANSWER_ID, sse


class AnthropicWire:
    """The Messages API."""

    content_type = SSE_CONTENT_TYPE
    _reasons = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
    _kinds = {401: "authentication_error", 429: "rate_limit_error", 500: "api_error"}
    _tokens_in = 100
    """Told before the first text, so it can't follow the script's end."""

    def opening(self) -> bytes:
        """Return the message's start, with the tokens of the prompt, and a ping."""
        message: dict[str, Any] = {
            "id": ANSWER_ID,
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": "scripted",
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": self._tokens_in, "output_tokens": 1},
        }
        block = {"index": 0, "content_block": {"type": "text", "text": ""}}
        return (
            self._event("message_start", message=message)
            + self._event("content_block_start", **block)
            + self._event("ping")
        )

    def piece(self, text: str) -> bytes:
        """Return a delta of the one content block."""
        delta = {"type": "text_delta", "text": text}
        return self._event("content_block_delta", index=0, delta=delta)

    def end(self, reason: str, usage: Usage) -> bytes:
        """Return the stop, with the tokens of the answer."""
        delta = {"stop_reason": self._reasons[reason], "stop_sequence": None}
        counted = {"output_tokens": usage.completion_tokens}
        return (
            self._event("content_block_stop", index=0)
            + self._event("message_delta", delta=delta, usage=counted)
            + self._event("message_stop")
        )

    def failing(self, message: str) -> bytes:
        """Return the error event."""
        return self._event("error", error={"type": "overloaded_error", "message": message})

    def refusal(self, status: int, message: str) -> bytes:
        """Return the error document."""
        kind = self._kinds.get(status, "invalid_request_error")
        error = {"type": kind, "message": message}
        return orjson.dumps({"type": "error", "error": error, "request_id": "req_1"})

    def filtered(self) -> tuple[int, bytes] | None:
        """Return the refusal of an answer by the content filter."""
        return 400, self.refusal(400, "Output blocked by content filtering policy")

    @staticmethod
    def _event(kind: str, **fields: Any) -> bytes:
        return sse({"type": kind, **fields}, kind)


class GeminiWire:
    """streamGenerateContent with alt=sse; its lines end in CR LF."""

    content_type = SSE_CONTENT_TYPE
    _reasons = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
    _names = {401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}

    def opening(self) -> bytes:
        """Return nothing: an answer begins with its text."""
        return b""

    def piece(self, text: str) -> bytes:
        """Return a candidate's part."""
        return self._event({"content": {"parts": [{"text": text}], "role": "model"}, "index": 0})

    def end(self, reason: str, usage: Usage) -> bytes:
        """Return the candidate's end."""
        content = {"parts": [{"text": ""}], "role": "model"}
        candidate = {"content": content, "finishReason": self._reasons[reason], "index": 0}
        counted = {
            "promptTokenCount": usage.prompt_tokens,
            "candidatesTokenCount": usage.completion_tokens,
            "totalTokenCount": usage.prompt_tokens + usage.completion_tokens,
        }
        return self._event(candidate, usageMetadata=counted)

    def failing(self, message: str) -> bytes:
        """Return an error where a part would be."""
        error = {"code": 503, "message": message, "status": "UNAVAILABLE"}
        return b"data: " + orjson.dumps({"error": error}) + b"\r\n\r\n"

    def refusal(self, status: int, message: str) -> bytes:
        """Return the error document."""
        name = self._names.get(status, "INVALID_ARGUMENT")
        return orjson.dumps({"error": {"code": status, "message": message, "status": name}})

    def filtered(self) -> tuple[int, bytes] | None:
        """Return a stream without candidates: so a prompt is refused, with status 200."""
        blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
        counted = {"usageMetadata": {"promptTokenCount": 100, "totalTokenCount": 100}}
        return 200, b"data: " + orjson.dumps({**blocked, **counted}) + b"\r\n\r\n"

    @staticmethod
    def _event(candidate: dict[str, Any], **fields: Any) -> bytes:
        body = {"candidates": [candidate], "responseId": ANSWER_ID, **fields}
        return b"data: " + orjson.dumps(body) + b"\r\n\r\n"


class CohereWire:
    """The chat API, version 2."""

    content_type = SSE_CONTENT_TYPE
    _reasons = {"stop": "COMPLETE", "length": "MAX_TOKENS", "content_filter": "ERROR_TOXIC"}

    def opening(self) -> bytes:
        """Return the starts of the message and of its content."""
        message = {"role": "assistant", "content": [], "tool_calls": [], "citations": []}
        content = {"message": {"content": {"type": "text", "text": ""}}}
        return self._event("message-start", id=ANSWER_ID, delta={"message": message}) + self._event(
            "content-start", index=0, delta=content
        )

    def piece(self, text: str) -> bytes:
        """Return a delta of the content."""
        delta = {"message": {"content": {"text": text}}}
        return self._event("content-delta", index=0, delta=delta)

    def end(self, reason: str, usage: Usage) -> bytes:
        """Return the ends of content and message."""
        counted = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}
        used = {"billed_units": counted, "tokens": counted}
        delta = {"finish_reason": self._reasons[reason], "usage": used}
        return self._event("content-end", index=0) + self._event("message-end", delta=delta)

    def failing(self, message: str) -> bytes:
        """Return the message's end with an error."""
        delta = {"finish_reason": "ERROR", "error": message}
        return self._event("message-end", delta=delta)

    def refusal(self, _status: int, message: str) -> bytes:
        """Return the error document."""
        return orjson.dumps({"id": ANSWER_ID, "message": message})

    def filtered(self) -> tuple[int, bytes] | None:
        """Return None: Cohere's API tells of no such refusal."""
        return None

    @staticmethod
    def _event(kind: str, **fields: Any) -> bytes:
        return sse({"type": kind, **fields}, kind)


class BedrockWire:
    """ConverseStream: frames of the AWS event stream encoding, each with two checksums."""

    content_type = "application/vnd.amazon.eventstream"
    _reasons = {
        "stop": "end_turn",
        "length": "max_tokens",
        "content_filter": "content_filtered",
    }

    def opening(self) -> bytes:
        """Return the message's start."""
        return self._event("messageStart", {"role": "assistant"})

    def piece(self, text: str) -> bytes:
        """Return a delta of the one content block."""
        return self._event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}})

    def end(self, reason: str, usage: Usage) -> bytes:
        """Return the stop and the tokens."""
        counted = {
            "inputTokens": usage.prompt_tokens,
            "outputTokens": usage.completion_tokens,
            "totalTokens": usage.prompt_tokens + usage.completion_tokens,
        }
        return (
            self._event("contentBlockStop", {"contentBlockIndex": 0})
            + self._event("messageStop", {"stopReason": self._reasons[reason]})
            + self._event("metadata", {"usage": counted, "metrics": {"latencyMs": 1}})
        )

    def failing(self, message: str) -> bytes:
        """Return an exception frame."""
        kind = "serviceUnavailableException"
        headers = {":exception-type": kind, ":message-type": "exception"}
        return _frame({**headers, ":content-type": "application/json"}, {"message": message})

    def refusal(self, _status: int, message: str) -> bytes:
        """Return the error document."""
        return orjson.dumps({"message": message})

    def filtered(self) -> tuple[int, bytes] | None:
        """Return None: a guardrail answers with a stop reason, not with a refusal."""
        return None

    @staticmethod
    def _event(kind: str, body: dict[str, Any]) -> bytes:
        headers = {":event-type": kind, ":content-type": "application/json"}
        return _frame({**headers, ":message-type": "event"}, body)


def _frame(headers: dict[str, str], body: dict[str, Any]) -> bytes:
    """Return lengths, their checksum, headers (of type 7, string), body, and the whole's checksum.

    After the AWS event stream encoding's public description.
    """
    encoded = b"".join(
        struct.pack(">B", len(name))
        + name.encode()
        + struct.pack(">BH", 7, len(value))
        + value.encode()
        for name, value in headers.items()
    )
    payload = orjson.dumps(body)
    prelude = struct.pack(">II", len(encoded) + len(payload) + 16, len(encoded))
    message = prelude + struct.pack(">I", binascii.crc32(prelude)) + encoded + payload
    return message + struct.pack(">I", binascii.crc32(message))
