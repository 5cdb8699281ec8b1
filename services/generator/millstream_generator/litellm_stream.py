"""Reads an answer from a stream of litellm's, for the most part past litellm's own wrapper.

The wrapper builds every chunk anew, keeps them all, and at the end puts the answer together again
to log and price it: half of a call's processor time. What lies beneath it, the provider's own
reader, gives OpenAI's chunks or litellm's generic ones, nearly always; these are read as they are.
Any other chunk and any error are left to the wrapper, with all that it knows of them.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from millstream_generator.completion import (
    ANSWER_CHARACTERS_MOST,
    CallFailedError,
    Progress,
    told_tokens,
)
from millstream_generator.litellm_failures import classify
from millstream_generator.patience import PatientTimeout

TOKENIZER = "litellm.litellm_core_utils.default_encoding"
"""The module that loads litellm's tokenizer, in 0.2 s."""
_GENERIC = frozenset({"text", "is_finished", "finish_reason", "usage"})
_NOTHING = SimpleNamespace(content=None)
_TOLD = ("received_finish_reason", "intermittent_finish_reason")


class LitellmAnswer:
    """What has come of one answer; ``tokens_in`` and ``tokens_out`` are None until it is told."""

    def __init__(self, stream: Any, progress: Progress) -> None:
        self.finish_reason: object = None
        self.request_id: object = None
        self.tokens_in: int | None = None
        self.tokens_out: int | None = None
        self._is_whole = False
        self._is_counted = False
        self._stream = stream
        self._progress = progress
        self._parts: list[str] = []
        self._thoughts: list[str] = []

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._parts)

    @property
    def is_too_long(self) -> bool:
        """Whether the answer is so long that no more of it is read."""
        return self._progress.characters > ANSWER_CHARACTERS_MOST

    async def read(self, stall_s: float) -> None:
        """Read to the end; whoever opened the stream closes it.

        Raises:
            CallFailedError: silence for ``stall_s``, or an end in the middle of an answer.
            Exception: litellm's own, of many classes, for whatever else fails.
        """
        # A few providers have streams of another class.
        is_wrapper = hasattr(self._stream, "fetch_stream")
        async with contextlib.aclosing(
            self._unwrapped() if is_wrapper else self._wrapped()
        ) as chunks:
            while not self.is_too_long:
                try:
                    async with PatientTimeout(stall_s):
                        await anext(chunks)
                except StopAsyncIteration:
                    break
                except TimeoutError as error:
                    message = f"the answer stalled: no token for {stall_s:g} s"
                    raise CallFailedError("timeout", message, status_code=200) from error
        if self.finish_reason is None and not self.is_too_long:
            message = "the stream broke off in the middle of an answer"
            raise CallFailedError("server", message, status_code=200)

    async def _unwrapped(self) -> AsyncGenerator[None, None]:
        """Take chunk after chunk from beneath the wrapper; a ``yield`` follows each."""
        stream, source = self._stream, None
        try:
            source = await stream.fetch_stream()
            rest = source
            if isinstance(source, AsyncIterable) and not _is_rewritten(stream):
                chunks = aiter(source)
                async for chunk in chunks:
                    if chunk is not None and not self._take(chunk):
                        rest = _rest(chunk, chunks)
                        break
                    yield
                else:
                    return
            # The wrapper counts what it is not told, on the loop.
            await asyncio.to_thread(import_module, TOKENIZER)
        except Exception as error:  # noqa: BLE001  # of many classes; the wrapper tells them apart
            if self._is_whole and classify(error).link == "lost":
                return
            rest = _failed(error)
        # The wrapper counts what it is not told, and it has not seen what was read before.
        self._is_counted = bool(self._parts or self._thoughts)
        stream.completion_stream = rest
        try:
            async for _ in self._wrapped():
                yield
        finally:
            stream.completion_stream = source  # which the wrapper has to close

    async def _wrapped(self) -> AsyncGenerator[None, None]:
        """Take what the stream gives to everybody."""
        found = self.finish_reason
        async for chunk in self._stream:
            if not self._take(chunk):
                message = "the stream holds an event that is no completion chunk"
                raise CallFailedError("server", message)
            yield
            if self.tokens_in is not None and self.finish_reason is not None:
                break  # the usage comes last; what the wrapper would do next is log the call
        # It makes an end up for a stream that broke off; what the provider sent is kept here.
        if all(getattr(self._stream, name, "unknown") is None for name in _TOLD):
            self.finish_reason = found

    def _take(self, chunk: Any) -> bool:
        """Take a chunk; False where it is of no known form, and then nothing is taken."""
        deltas: Sequence[Any] = ()
        if isinstance(chunk, dict):
            if not chunk.keys() >= _GENERIC:
                return False
            texts, usage = [chunk["text"]], chunk["usage"]
            # It says "stop" of the end of the stream, too, whatever the provider has said before.
            reasons = [self.finish_reason or chunk["finish_reason"]]
        else:
            choices = getattr(chunk, "choices", None)
            if not isinstance(choices, list):
                return False
            choices = [choice for choice in choices if not getattr(choice, "index", 0)]
            deltas = [_delta(choice) for choice in choices]
            texts = [getattr(delta, "content", 0) for delta in deltas]
            reasons = [getattr(choice, "finish_reason", None) for choice in choices]
            usage = getattr(chunk, "usage", None)
        if "error" in reasons or not all(isinstance(text, str | None) for text in texts):
            return False
        for text in filter(None, texts):
            self._take_text(text)
        for delta in deltas:
            if thought := getattr(delta, "reasoning_content", None):
                self._thoughts.append(str(thought))
        for reason in filter(None, reasons):
            self.finish_reason = reason
            # Gemini's reader says "stop" in every chunk, and that it is not meant so.
            self._is_whole = getattr(chunk, "hidden_params", {}).get("is_finished") is not False
        self.request_id = self.request_id or getattr(chunk, "id", None)
        if usage is not None and not self._is_counted:
            self.tokens_in = _count(usage, "prompt_tokens", self.tokens_in)
            self.tokens_out = _count(usage, "completion_tokens", self.tokens_out)
        return True

    def _take_text(self, text: str) -> None:
        progress = self._progress
        if progress.first_token_at is None:
            progress.first_token_at = time.monotonic()
        progress.characters += len(text)
        self._parts.append(text)

    async def count_untold(
        self, litellm: Any, model: str, messages: Sequence[Mapping[str, str]]
    ) -> None:
        """Let litellm count the tokens that the provider has not told.

        Of an answer that is not read to its end, or from the middle on by the wrapper, a provider
        may have told the first few only.
        """
        if self.tokens_in is None:
            self.tokens_in = await asyncio.to_thread(
                litellm.token_counter, model=model, messages=messages
            )
        if self.tokens_out is None or self.is_too_long or self._is_counted:
            counted = await asyncio.to_thread(
                litellm.token_counter,
                model=model,
                text="".join((*self._thoughts, *self._parts)),
                count_response_tokens=True,
            )
            self.tokens_out = max(counted, self.tokens_out or 0)


def _delta(choice: Any) -> Any:
    """Return what a choice adds; the end of an answer may come without."""
    delta = getattr(choice, "delta", None)
    if delta is None and getattr(choice, "finish_reason", None):
        return None if getattr(choice, "text", None) else _NOTHING
    return delta


def _is_rewritten(stream: Any) -> bool:
    """Tell whether the wrapper changes the text: takes end marks off, or puts thoughts in."""
    return bool(
        stream.custom_llm_provider == "sagemaker" or stream.merge_reasoning_content_in_choices
    )


async def _rest(chunk: Any, chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Give a chunk that was read already, and those after it."""
    yield chunk
    async for one in chunks:
        yield one


async def _failed(error: Exception) -> AsyncIterator[Any]:
    """Fail as the provider's own reader did."""
    raise error
    yield


def _count(usage: Any, name: str, before: int | None) -> int | None:
    """Return a number of tokens; some providers tell it in parts, with zeros for the others."""
    told = usage.get(name) if isinstance(usage, dict) else getattr(usage, name, None)
    tokens = told_tokens(told)
    return before if tokens is None else tokens or before or 0
