"""How an answer is read from litellm's streams: what is read as it is, what is left to litellm."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millstream.runtime.settings import load_settings
from millstream.testing.scripted_llm import Garbage, Ok
from millstream.testing.wire_forms import OpenAIWire
from millstream.testing.wire_server import WireServer
from millstream_generator.completion import (
    ANSWER_CHARACTERS_MOST,
    CallFailedError,
    Completion,
    Progress,
    Prompt,
)
from millstream_generator.lanes import Lanes
from millstream_generator.litellm_setup import litellm
from millstream_schemas.routes import Route

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),  # litellm's own
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),  # litellm's own
    pytest.mark.filterwarnings("ignore:Items .* on TypedDict class:UserWarning"),  # litellm's own
]

PROMPT = Prompt("batch_1", [{"role": "user", "content": "Why?"}], None, 77, 12, 0.5, None, {})
WAYS = ["openai/one", "hosted_vllm/one"]
"""Through OpenAI's own client, and through litellm's HTTP handler."""


@pytest.fixture
async def lanes() -> AsyncIterator[Lanes]:
    """Everything through litellm."""
    made = Lanes(load_settings(lane="litellm"), settle=lambda: None)
    await made.warm_up()
    yield made
    await made.close()


@pytest.fixture
def wrapped(lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The providers of whose streams a chunk was read through litellm's wrapper."""
    read: list[str] = []
    wrapper: Any = litellm.CustomStreamWrapper
    through = wrapper.__anext__

    async def counted(stream: Any) -> Any:
        read.append(stream.custom_llm_provider)
        return await through(stream)

    monkeypatch.setattr(wrapper, "__anext__", counted)
    return read


def route(origin: str, model: str, base: str = "/v1") -> Route:
    return Route(
        model="x/y",
        provider="x",
        litellm_model=model,
        api_base=f"{origin}{base}",
        timeout_s=10.0,
        stall_s=5.0,
    )


def events(*chunks: dict[str, Any] | str) -> Garbage:
    """Return a stream of these events, and an end."""
    lines = [f"data: {one if isinstance(one, str) else json.dumps(one)}\n\n" for one in chunks]
    return Garbage("".join((*lines, "data: [DONE]\n\n")).encode())


def chunk(delta: Any, reason: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {
        "id": "answer-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "one",
        "choices": [choice],
        **fields,
    }


async def call(lanes: Lanes, model: str, answer: Garbage | Ok) -> Completion:
    async with WireServer(OpenAIWire(), [answer]) as server:
        return await lanes.complete(route(server.origin, model), PROMPT, Progress())


@pytest.mark.parametrize("model", WAYS)
async def test_no_chunk_of_a_known_form_goes_through_the_wrapper(
    lanes: Lanes, wrapped: list[str], model: str
) -> None:
    completion = await call(lanes, model, Ok({"a": "b"}))
    assert (completion.text, completion.finish_reason) == ('{"a":"b"}', "stop")
    assert (completion.usage.tokens_in, completion.usage.tokens_out) == (100, 50)
    assert not wrapped


@pytest.mark.parametrize("model", WAYS)
async def test_litellm_prices_no_call(
    lanes: Lanes, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    priced: list[object] = []

    def price(**asked: object) -> float:
        priced.append(asked)
        return 0.0

    monkeypatch.setattr("litellm.cost_calculator.completion_cost", price)
    await call(lanes, model, Ok({"a": "b"}))
    assert not priced


async def test_a_form_that_is_not_known_is_left_to_litellm(
    lanes: Lanes, wrapped: list[str]
) -> None:
    def piece(text: str, reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
        return {
            "id": "answer-1",
            "object": "text_completion",
            "created": 1,
            "model": "one",
            "choices": [choice],
        }

    told = events(piece("be"), piece("cause"), piece("", "length"))
    completion = await call(lanes, "text-completion-openai/one", told)
    assert (completion.text, completion.finish_reason) == ("because", "length")
    assert completion.usage.tokens_out
    assert set(wrapped) == {"text-completion-openai"}


@pytest.mark.parametrize("model", WAYS)
async def test_what_a_provider_does_not_tell_of_its_tokens_is_counted(
    lanes: Lanes, model: str
) -> None:
    thought = chunk({"role": "assistant", "reasoning_content": "one two three"})
    told = events(thought, chunk({"content": "four five"}), chunk({}, "stop"))
    completion = await call(lanes, model, told)
    assert completion.text == "four five"
    assert completion.usage.tokens_in == litellm.token_counter("one", messages=PROMPT.messages)
    assert completion.usage.tokens_out == 5


@pytest.mark.parametrize("model", WAYS)
@pytest.mark.parametrize(
    ("told", "means"),
    [("max_tokens", "length"), ("MAX_TOKENS", "length"), ("refusal", "content_filter")],
)
async def test_a_providers_own_word_for_an_end_is_translated(
    lanes: Lanes, model: str, told: str, means: str
) -> None:
    completion = await call(lanes, model, events(chunk({"content": "so"}), chunk({}, told)))
    assert (completion.text, completion.finish_reason) == ("so", means)


async def test_a_chunk_without_a_delta_holds_no_text(lanes: Lanes, wrapped: list[str]) -> None:
    bare = chunk({}, "stop")
    del bare["choices"][0]["delta"]
    told = events(chunk({"content": "one two three four five six"}), bare)
    completion = await call(lanes, "openai/one", told)
    assert (completion.text, completion.finish_reason) == ("one two three four five six", "stop")
    assert completion.usage.tokens_out == 6
    assert not wrapped


async def test_tokens_are_counted_whole_where_litellm_saw_only_the_rest(
    lanes: Lanes, wrapped: list[str]
) -> None:
    unknown = chunk({}, "stop")
    unknown["choices"] = [{"index": 0, "text": "", "delta": None, "finish_reason": None}]
    early = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
    words = chunk({"content": "one two three four five six"}, usage=early)
    told = events(words, unknown, chunk({}, "stop"))
    completion = await call(lanes, "openai/one", told)
    assert (completion.text, completion.usage.tokens_out) == ("one two three four five six", 6)
    assert wrapped


@pytest.mark.parametrize("model", WAYS)
async def test_an_answer_is_read_no_further_than_it_may_be_long(lanes: Lanes, model: str) -> None:
    piece = chunk({"content": "x" * 10_000})
    completion = await call(lanes, model, events(*[piece] * 40))
    assert len(completion.text) == ANSWER_CHARACTERS_MOST + 10_000


@pytest.mark.parametrize(
    ("broken", "words", "ways"),
    [
        (chunk({"content": 5}), "", WAYS[:1]),
        (chunk("text"), "", WAYS),
        (chunk({"content": "a"}, "error"), "error", WAYS[:1]),
        (chunk({}) | {"choices": 7}, "", WAYS),
        ({"error": {"message": "overloaded", "code": 503}}, "overloaded", WAYS),
        ("[1, 2]", "", WAYS),
        ('{"choices": [{"del', "", WAYS[:1]),
    ],
)
async def test_an_event_that_is_no_chunk_is_a_server_error(
    lanes: Lanes, broken: dict[str, Any] | str, words: str, ways: list[str]
) -> None:
    for model in ways:  # litellm's own handler passes over what is missing here
        with pytest.raises(CallFailedError) as caught:
            await call(lanes, model, events(chunk({"content": "so"}), broken))
        assert caught.value.category == "server"
        assert words in caught.value.message


@pytest.mark.parametrize(
    ("last", "is_whole"), [(chunk({"content": "so"}, "stop"), True), (chunk({}), False)]
)
async def test_a_connection_lost_after_the_end_of_an_answer_leaves_it_whole(
    lanes: Lanes, last: dict[str, Any], *, is_whole: bool
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        sent = f"data: {json.dumps(last)}\n\n".encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked"
        writer.write(head + b"\r\n\r\n%x\r\n%b\r\n" % (len(sent), sent))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        one = route(f"http://{host}:{port}", "hosted_vllm/one")
        if is_whole:
            completion = await lanes.complete(one, PROMPT, Progress())
            assert (completion.text, completion.finish_reason) == ("so", "stop")
            assert completion.usage.tokens_out
        else:
            with pytest.raises(CallFailedError) as caught:
                await lanes.complete(one, PROMPT, Progress())
            assert caught.value.category == "server"
