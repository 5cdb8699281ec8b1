"""The lane through litellm, for every provider that it knows.

Always streamed: a cancelled non-streaming call runs on at the server for its full length.
litellm's own retries are off; the one retry layer is ours.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from inspect import isawaitable
from typing import Any

from millstream_generator import memory
from millstream_generator.completion import (
    CallFailedError,
    Completion,
    Progress,
    Prompt,
    priced,
    storable,
)
from millstream_generator.litellm_document import watching
from millstream_generator.litellm_failures import classify
from millstream_generator.litellm_stream import LitellmAnswer
from millstream_generator.patience import PatientTimeout
from millstream_generator.targets import Targets
from millstream_schemas.routes import Route
from millstream_schemas.slices import Usage

_users: Counter[int] = Counter()
"""How many lanes use litellm in each loop: litellm shares its clients among them."""
WITHOUT_CLIENT = (
    "anthropic/",
    "cohere/",
    "cohere_chat/",
    "deepseek/",
    "fireworks_ai/",
    "gemini/",
    "groq/",
    "hosted_vllm/",
    "mistral/",
    "ollama/",
    "ollama_chat/",
    "openrouter/",
    "xai/",
)
"""Models that litellm calls by itself; most others it leaves to openai's client: 450 modules."""


class LitellmLane:
    """Calls any provider that litellm knows; litellm is loaded by the first call.

    ``settle`` is called after each load of modules, in the thread that loaded them.
    """

    def __init__(self, targets: Targets, settle: Callable[[], None] = memory.give_back) -> None:
        self._targets = targets
        self._settle = settle
        self._litellm: Any = None
        self._has_client = False
        self._loading = asyncio.Lock()

    async def warm_up(self, model: str = "") -> None:
        """Load litellm in a thread, for seconds in which leases and other calls go on.

        And what else the calls of ``model`` need.
        """
        async with self._loading:
            if self._litellm is None:
                self._litellm = await asyncio.to_thread(self._settled, _load)
                _users[id(asyncio.get_running_loop())] += 1
            if self._lacks_client(model):
                await asyncio.to_thread(self._settled, import_module, "openai.resources")
                self._has_client = True

    def _settled(self, load: Callable[..., Any], *names: str) -> Any:
        loaded = load(*names)
        self._settle()
        return loaded

    def _lacks_client(self, model: str) -> bool:
        return not self._has_client and model != "" and not model.startswith(WITHOUT_CLIENT)

    async def close(self) -> None:
        """Close litellm's connections, unless another lane of this loop uses them too."""
        if self._litellm is None:
            return
        litellm, self._litellm = self._litellm, None
        loop = id(asyncio.get_running_loop())
        _users[loop] -= 1
        if not _users[loop]:
            del _users[loop]
            await _close_clients(litellm, loop)
        if not _users:
            await _close_shared(litellm)

    async def detour(self, route: Route) -> str:  # noqa: ARG002  # of every lane
        """Return nothing: where this lane is the only one, no route could go elsewhere."""
        return ""

    async def complete(self, route: Route, prompt: Prompt, progress: Progress) -> Completion:
        """Return the whole answer of one streamed call.

        Raises:
            CallFailedError: no answer, in its category.
        """
        arguments = self._arguments(route, prompt)
        if self._litellm is None or self._lacks_client(route.litellm_model):
            await self.warm_up(route.litellm_model)
        progress.started_at = time.monotonic()
        with watching(progress, arguments["api_key"]) as document:
            try:
                async with PatientTimeout(route.timeout_s):
                    completion = await self._stream(route, arguments, progress)
            except TimeoutError as error:
                message = f"no whole answer within {route.timeout_s:g} s"
                raise CallFailedError("timeout", message) from error
            except Exception as error:  # litellm raises its own classes, openai's and aiohttp's
                if (whole := document.completion(route)) is not None:
                    return whole
                told = document.failure(error)
                if told is None and isinstance(error, CallFailedError):
                    raise
                raise told or classify(error, arguments["api_key"]) from error
            # Some of litellm's readers make an end up for what they can't read.
            if not completion.text and (told := document.failure()) is not None:
                raise told
            return completion if completion.text else document.completion(route) or completion

    async def _stream(
        self, route: Route, arguments: dict[str, Any], progress: Progress
    ) -> Completion:
        litellm = self._litellm
        opened = await litellm.acompletion(**arguments)
        answer = LitellmAnswer(opened, progress)
        # Closed in any case: a stream that is only dropped keeps its server busy.
        async with contextlib.aclosing(opened):
            await answer.read(route.stall_s)
        await answer.count_untold(litellm, route.litellm_model, arguments["messages"])
        ended = answer.finish_reason
        return Completion(
            answer.text,
            # Each provider has its own words: what is "length" here is "MAX_TOKENS" there.
            None if ended is None else _text(litellm.map_finish_reason(str(ended))),
            _usage(route, answer, progress),
            _text(answer.request_id),
        )

    def _arguments(self, route: Route, prompt: Prompt) -> dict[str, Any]:
        base = self._targets.base(route)
        arguments: dict[str, Any] = {
            "model": route.litellm_model,
            "messages": [{**one} for one in prompt.messages],  # shared, and litellm may change them
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": prompt.max_tokens,
            "temperature": prompt.temperature,
            "seed": prompt.seed,
            "timeout": route.timeout_s,
            "num_retries": 0,
            "max_retries": 0,
            "api_key": self._targets.key(route),
            **route.parameters,
        }
        if base is not None:
            arguments["api_base"] = base
        if prompt.top_p is not None:
            arguments["top_p"] = prompt.top_p
        if prompt.response_format is not None and route.structured:
            arguments["response_format"] = _copy(prompt.response_format)
        if route.provider == "simulated":
            arguments["extra_headers"] = {"X-Millstream-Batch": prompt.batch_id}
        if prompt.extra and route.provider == "local":
            # Sampling knobs of llama.cpp that no hosted API takes.
            arguments["extra_body"] = prompt.extra
        return arguments


def _load() -> Any:
    """Return litellm with all that its first calls would load, in over a second of blocking.

    A call loads half of it; port 9 of this machine (discard) takes none. litellm makes it without
    openai's client, as for most providers that it alone can call.
    """
    litellm = import_module("millstream_generator.litellm_setup").litellm

    async def once() -> None:
        with contextlib.suppress(import_module("openai").OpenAIError):
            await litellm.acompletion(
                model="hosted_vllm/warm-up",
                messages=[{"role": "user", "content": "warm-up"}],
                stream=True,
                api_base="http://127.0.0.1:9/v1",
                api_key="none",
                response_format={"type": "json_object"},
                timeout=5.0,
                max_retries=0,
            )
        await _close_clients(litellm, id(asyncio.get_running_loop()))

    asyncio.run(once())
    return litellm


async def _close_clients(litellm: Any, loop: int) -> None:
    """Close the clients that litellm has made in a loop, and let it forget them."""
    cache = litellm.in_memory_llm_clients_cache
    for key in [one for one in cache.cache_dict if one.endswith(f"-{loop}")]:
        client = cache.cache_dict.pop(key)
        cache.ttl_dict.pop(key, None)
        close = getattr(client, "close", None) or getattr(client, "aclose", None)
        closing = close() if close is not None else None
        if isawaitable(closing):
            await closing


async def _close_shared(litellm: Any) -> None:
    """Close the client that litellm shares among all loops; it makes another if it needs one."""
    client = vars(litellm).pop("module_level_aclient", None)
    if client is not None:
        await client.close()


def _copy(value: Any) -> Any:
    """Return a copy of JSON of its own, for less than ``copy.deepcopy`` costs.

    Not by orjson, which refuses integers beyond 64 bits; a recipe's schema may hold such.
    """
    return json.loads(json.dumps(value))


def _text(value: object) -> str | None:
    return None if value is None else storable(str(value))[:200]


def _usage(route: Route, answer: LitellmAnswer, progress: Progress) -> Usage:
    now = time.monotonic()
    first = progress.first_token_at
    return Usage(
        tokens_in=answer.tokens_in,
        tokens_out=answer.tokens_out,
        cost_nano_usd=priced(route, answer.tokens_in, answer.tokens_out),
        latency_ms=round((now - progress.started_at) * 1000, 3),
        first_token_ms=None if first is None else round((first - progress.started_at) * 1000, 3),
    )
