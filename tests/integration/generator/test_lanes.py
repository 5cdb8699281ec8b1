"""Both lanes to models, against a real HTTP server: what goes out, what comes back, what fails."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from millstream.openai_wire import Usage as WireUsage
from millstream.runtime.settings import load_settings
from millstream.testing.scripted_llm import (
    Answer,
    Disconnect,
    Garbage,
    HttpError,
    Ok,
    ScriptedLLM,
    Stall,
)
from millstream.testing.waiting import until
from millstream_generator.completion import CallFailedError, Completion, Progress, Prompt
from millstream_generator.endpoints import Endpoint, find_endpoint
from millstream_generator.lanes import Lanes
from millstream_generator.resolve import NotPlainError, resolve
from millstream_schemas.routes import Price, Route

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),  # litellm's own
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),  # litellm's own
]

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
PROMPT = Prompt(
    batch_id="batch_1_00000000",
    messages=[{"role": "user", "content": "Why?"}],
    response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
    max_tokens=77,
    seed=12,
    temperature=0.5,
    top_p=None,
    extra={},
)
KEY = "sk-test-0123456789abcdef"


@pytest.fixture(params=["direct", "litellm"])
async def lanes(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Lanes]:
    monkeypatch.setenv("SCRIPTED_API_KEY", KEY)
    chosen = load_settings(lane="auto" if request.param == "direct" else "litellm")
    made = Lanes(chosen, settle=lambda: None)
    yield made
    await made.close()


def route(llm: ScriptedLLM, **changes: Any) -> Route:
    fields: dict[str, Any] = {
        "model": "scripted/one",
        "provider": "local",  # called directly without asking litellm
        "litellm_model": "openai/one",
        "api_base": llm.base_url,
        "api_key_env": "SCRIPTED_API_KEY",
        "price": Price(input_nano_usd_per_1k=1000, output_nano_usd_per_1k=2000),
    }
    return Route(**{**fields, **changes})


async def call(lanes: Lanes, answer: Answer, **changes: Any) -> tuple[Completion, ScriptedLLM]:
    async with ScriptedLLM([answer]) as llm:
        return await lanes.complete(route(llm, **changes), PROMPT, Progress()), llm


async def failure(lanes: Lanes, answer: Answer, **changes: Any) -> CallFailedError:
    with pytest.raises(CallFailedError) as caught:
        await call(lanes, answer, **changes)
    return caught.value


async def test_a_call_carries_the_prompt_the_limits_and_the_key(lanes: Lanes) -> None:
    _, llm = await call(lanes, Ok({"a": "b"}))
    (request,) = llm.requests
    assert request.authorization_sent
    body = request.body
    assert body["model"] == "one"
    assert body["messages"] == PROMPT.messages
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert (body["max_tokens"], body["seed"], body["temperature"]) == (77, 12, 0.5)
    assert body["response_format"]["json_schema"]["schema"]["properties"] == SCHEMA["properties"]
    assert "top_p" not in body


async def test_a_schema_may_hold_a_number_beyond_64_bits(lanes: Lanes) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "maximum": 2**70}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    async with ScriptedLLM([Ok({"a": 1})]) as llm:
        prompt = dataclasses.replace(PROMPT, response_format=wanted)
        await lanes.complete(route(llm), prompt, Progress())
    (request,) = llm.requests
    assert (
        request.body["response_format"]["json_schema"]["schema"]["properties"]
        == (schema["properties"])
    )


async def test_an_answer_comes_whole_with_its_tokens_and_cost(lanes: Lanes) -> None:
    completion, _ = await call(lanes, Ok({"a": "ü€😀"}, chunks=7, usage=WireUsage(100, 50)))
    assert completion.text == '{"a":"ü€😀"}'
    assert completion.finish_reason == "stop"
    assert (completion.usage.tokens_in, completion.usage.tokens_out) == (100, 50)
    assert completion.usage.cost_nano_usd == 200
    assert completion.request_id


async def test_an_unknown_price_gives_no_cost(lanes: Lanes) -> None:
    completion, _ = await call(lanes, Ok({"a": "b"}), price=None)
    assert completion.usage.cost_nano_usd is None


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (400, "invalid_request"),
        (401, "auth"),
        (403, "auth"),
        (404, "invalid_request"),
        (408, "timeout"),
        (422, "invalid_request"),
        (429, "rate_limit"),
        (500, "server"),
        (502, "server"),
        (503, "server"),
        (529, "server"),
    ],
)
async def test_a_refusal_falls_into_its_category_and_hides_the_key(
    lanes: Lanes, status: int, category: str
) -> None:
    body = {"error": {"message": f"bad key {KEY} given", "type": "x", "code": None}}
    error = await failure(lanes, HttpError(status, body))
    assert error.category == category
    assert KEY not in error.message


async def test_a_rate_limit_tells_how_long_to_wait(lanes: Lanes) -> None:
    error = await failure(lanes, HttpError(429, headers={"Retry-After": "7"}))
    assert error.retry_after_s == 7


async def test_a_silent_stream_is_a_timeout(lanes: Lanes) -> None:
    error = await failure(lanes, Stall(after_chunks=1), stall_s=0.3)
    assert error.category == "timeout"
    assert "stalled" in error.message


async def test_a_call_that_takes_too_long_is_a_timeout(lanes: Lanes) -> None:
    error = await failure(lanes, Stall(), timeout_s=0.3)
    assert error.category == "timeout"


@pytest.mark.parametrize("answer", [Disconnect(), Garbage()])
async def test_a_broken_stream_is_a_server_error(lanes: Lanes, answer: Answer) -> None:
    assert (await failure(lanes, answer)).category == "server"


async def test_a_refused_connection_is_a_server_error(lanes: Lanes) -> None:
    async with ScriptedLLM([Ok("x")]) as llm:
        gone = route(llm)
    with pytest.raises(CallFailedError) as caught:
        await lanes.complete(gone, PROMPT, Progress())
    assert caught.value.category == "server"


async def test_a_cancelled_call_frees_its_server_at_once(lanes: Lanes) -> None:
    async with ScriptedLLM([Stall(after_chunks=1)]) as llm:
        progress = Progress()
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(lanes.complete(route(llm), PROMPT, progress))
            await until(lambda: progress.characters > 0, what="the first token")
            call.cancel()
        await llm.wait_for(lambda requests: requests[0].outcome == "cancelled")


async def test_a_missing_key_is_told_with_the_variable_to_set(
    lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCRIPTED_API_KEY")
    error = await failure(lanes, Ok("x"))
    assert error.category == "auth"
    assert "SCRIPTED_API_KEY" in error.message


async def test_a_server_of_our_own_that_this_node_lacks_is_told(lanes: Lanes) -> None:
    error = await failure(lanes, Ok("x"), provider="simulated", api_base=None, api_key_env=None)
    assert "MILLSTREAM_SIMULATED_URL" in error.message


PLAIN = Route(model="x/y", provider="x", litellm_model="openai/y")


@pytest.mark.parametrize(
    ("model", "host"),
    [
        ("openai/gpt-4o-mini", "api.openai.com"),
        ("cerebras/gpt-oss-120b", "api.cerebras.ai"),
        ("together_ai/openai/gpt-oss-120b", "api.together.ai"),
        ("deepseek/deepseek-chat", "api.deepseek.com"),
        ("xai/grok-3", "api.x.ai"),
    ],
)
def test_a_key_goes_to_its_own_company_only(model: str, host: str) -> None:
    assert resolve(model, None, KEY)["url"].split("/")[2] == host


@pytest.mark.parametrize(
    "model", ["anthropic/claude-3-5-haiku-latest", "gemini/gemini-2.0-flash", "groq/openai/x"]
)
def test_what_litellm_translates_goes_through_litellm(model: str) -> None:
    with pytest.raises(NotPlainError):
        resolve(model, None, KEY)


def test_a_renamed_parameter_keeps_its_meaning() -> None:
    names = resolve("openai/o3-mini", None, KEY)["names"]
    assert names["max_tokens"] == "max_completion_tokens"
    assert "temperature" not in names


async def test_litellm_is_asked_in_a_process_of_its_own() -> None:
    hosted = PLAIN.model_copy(update={"litellm_model": "together_ai/openai/gpt-oss-120b"})
    endpoint = await find_endpoint(hosted, "http://127.0.0.1:9/v1", KEY)
    assert isinstance(endpoint, Endpoint)
    assert endpoint.model == "openai/gpt-oss-120b"
    assert endpoint.url == "http://127.0.0.1:9/v1/chat/completions"
    assert endpoint.headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("model", ["openai/y", "openai/org/y"])
async def test_an_own_base_is_called_as_litellm_would_call_it(model: str) -> None:
    base = "http://127.0.0.1:9/v1"
    endpoint = await find_endpoint(PLAIN.model_copy(update={"litellm_model": model}), base, KEY)
    assert isinstance(endpoint, Endpoint)
    told = resolve(model, base, KEY)
    assert (endpoint.url, endpoint.model) == (told["url"], told["model"])
    assert endpoint.headers.items() <= told["headers"].items()
    assert endpoint.names.items() >= told["names"].items()


async def test_a_question_to_litellm_is_asked_once_and_keeps_no_plain_route_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SCRIPTED_API_KEY", KEY)
    lanes = Lanes(load_settings(lane="auto"))
    async with ScriptedLLM([Ok({"a": "b"})]) as llm, contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(lanes.close)
        told = stack.enter_context(capture_logs())
        async with asyncio.TaskGroup() as tasks:
            for _ in range(2):
                asked = route(llm, model="asked", provider="x", litellm_model="together_ai/x/y")
                tasks.create_task(lanes.complete(asked, PROMPT, Progress()))
            await tasks.create_task(lanes.complete(route(llm, model="plain"), PROMPT, Progress()))
            assert [request.body["model"] for request in llm.requests] == ["one"]
    assert [line["model"] for line in told if line["event"] == "route.resolved"] == [
        "plain",
        "asked",
    ]


async def test_what_litellm_does_not_know_goes_through_litellm() -> None:
    strange = PLAIN.model_copy(update={"litellm_model": "no-such-provider/y"})
    assert isinstance(await find_endpoint(strange, None, KEY), str)


@pytest.mark.parametrize(
    "base", ["ftp://127.0.0.1/v1", "http://user:word@127.0.0.1/v1", "http://127.0.0.1/v1\nX: y"]
)
async def test_a_base_that_is_no_plain_url_is_not_called_directly(base: str) -> None:
    own = PLAIN.model_copy(update={"provider": "local"})
    assert isinstance(await find_endpoint(own, base, KEY), str)


async def test_an_endpoint_behind_a_proxy_goes_through_litellm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    base = "http://models.example/v1"
    assert await find_endpoint(PLAIN, base, KEY) == "models.example is reached through a proxy"
    far = PLAIN.model_copy(update={"api_base": base, "api_key_env": None})
    lanes, other = Lanes(load_settings(lane="auto")), Lanes(load_settings(lane="litellm"))
    assert await lanes.detour(far) == "models.example is reached through a proxy"
    assert await other.detour(far) == ""  # as it was told to
    await lanes.close()
    await other.close()
    own = PLAIN.model_copy(update={"provider": "local"})
    assert isinstance(await find_endpoint(own, "http://127.0.0.1:9/v1", KEY), Endpoint)
