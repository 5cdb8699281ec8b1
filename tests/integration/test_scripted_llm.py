import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx
import pytest

from millstream.openai_wire import Usage
from millstream.testing.scripted_llm import (
    Answer,
    Delayed,
    Disconnect,
    Garbage,
    HttpError,
    Ok,
    Request,
    ScriptedLLM,
    ScriptedLLMThread,
    Stall,
)

pytestmark = pytest.mark.anyio

BODY: dict[str, Any] = {
    "model": "any",
    "messages": [{"role": "user", "content": "Hello"}],
    "stream": True,
    "stream_options": {"include_usage": True},
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


def post(client: aiohttp.ClientSession, llm: ScriptedLLM, **fields: Any) -> Any:
    return client.post(f"{llm.base_url}/chat/completions", json=BODY | fields)


async def chunks(response: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    *events, done = (await response.text()).rstrip("\n").split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


def content(parts: list[dict[str, Any]]) -> str:
    return "".join(
        choice["delta"].get("content", "") for part in parts for choice in part["choices"]
    )


async def test_a_list_is_played_in_order_and_its_last_answer_repeats(
    client: aiohttp.ClientSession,
) -> None:
    async with ScriptedLLM([HttpError(429, headers={"Retry-After": "7"}), Ok({"a": 1})]) as llm:
        async with post(client, llm) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "7")
            assert "error" in await response.json()
        for _ in range(2):
            async with post(client, llm) as response:
                assert json.loads(content(await chunks(response))) == {"a": 1}
        assert [request.outcome for request in llm.requests] == ["finished"] * 3


async def test_a_function_sees_the_request_and_chooses(client: aiohttp.ClientSession) -> None:
    def echo(request: Request) -> Answer:
        return Ok(request.body["messages"][-1]["content"], usage=Usage(3, 4))

    async with ScriptedLLM(echo) as llm:
        async with post(client, llm) as response:
            *parts, usage = await chunks(response)
            assert content(parts) == "Hello"
            assert usage["usage"] == {
                "prompt_tokens": 3,
                "completion_tokens": 4,
                "total_tokens": 7,
            }
        async with post(client, llm, stream=False) as response:
            assert (await response.json())["choices"][0]["message"]["content"] == "Hello"


async def test_requests_are_recorded_without_the_value_of_the_key(
    client: aiohttp.ClientSession,
) -> None:
    async with ScriptedLLM([Ok("fine")]) as llm:
        where = f"{llm.base_url}/chat/completions"
        headers = {"Authorization": "Bearer secret-value", "X-Other": "kept"}
        async with client.post(where, json=BODY, headers=headers) as response:
            await response.read()
        async with post(client, llm) as response:
            await response.read()
        first, second = llm.requests
    assert (first.authorization_sent, second.authorization_sent) == (True, False)
    assert "secret-value" not in repr(first)
    assert first.headers["X-Other"] == "kept"
    assert first.body == BODY
    assert first.finished_at is not None
    assert first.finished_at >= first.started_at


@pytest.mark.parametrize("after", [0, 2])
async def test_a_stall_lasts_until_the_caller_goes_away(
    client: aiohttp.ClientSession, after: int
) -> None:
    async with ScriptedLLM([Stall(after_chunks=after)]) as llm:
        async with post(client, llm) as response:
            assert response.status == 200
            for _ in range(after):
                assert b'"content"' in await response.content.readuntil(b"\n\n")
            assert (llm.open_requests, llm.requests[0].outcome) == (1, "open")
        await llm.wait_for(lambda requests: requests[0].outcome == "cancelled")
        assert llm.open_requests == 0


async def test_a_disconnect_breaks_the_stream_after_its_chunks(
    client: aiohttp.ClientSession,
) -> None:
    async with ScriptedLLM([Disconnect(after_chunks=1)]) as llm:
        async with post(client, llm) as response:
            assert b'"content"' in await response.content.readuntil(b"\n\n")
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        await llm.wait_for(lambda requests: requests[0].outcome == "finished")


async def test_garbage_is_sent_as_it_is(client: aiohttp.ClientSession) -> None:
    garbage = Garbage(b"\x00 no json", "application/json")
    async with ScriptedLLM([garbage]) as llm, post(client, llm) as response:
        assert (response.status, response.content_type) == (200, "application/json")
        assert await response.read() == b"\x00 no json"


async def test_a_delayed_answer_waits_for_its_event(client: aiohttp.ClientSession) -> None:
    gate = asyncio.Event()
    async with ScriptedLLM([Delayed(Ok("late"), until=gate)]) as llm:
        async with asyncio.TaskGroup() as tasks:

            async def ask() -> str:
                async with post(client, llm) as response:
                    return content(await chunks(response))

            asked = tasks.create_task(ask())
            await llm.wait_for(lambda requests: len(requests) == 1)
            assert not asked.done()
            gate.set()
        assert asked.result() == "late"


async def test_waiting_for_what_never_comes_is_refused() -> None:
    async with ScriptedLLM([Ok("x")]) as llm:
        with pytest.raises(TimeoutError):
            await llm.wait_for(lambda requests: len(requests) == 1, limit_s=0.01)


async def test_other_paths_and_the_models_are_answered(client: aiohttp.ClientSession) -> None:
    async with ScriptedLLM([Ok("x")]) as llm:
        async with client.get(f"{llm.base_url}/models") as response:
            assert [model["id"] for model in (await response.json())["data"]] == ["scripted"]
        async with client.get(f"{llm.base_url}/nothing") as response:
            assert response.status == 404
        assert llm.requests == []


def test_an_empty_script_is_refused() -> None:
    with pytest.raises(ValueError, match="script: an empty list"):
        ScriptedLLM([])


def test_the_threaded_one_serves_code_without_an_event_loop() -> None:
    with ScriptedLLMThread([Ok("from a thread")]) as llm:
        answer = httpx.post(
            f"{llm.base_url}/chat/completions", json=BODY | {"stream": False}, timeout=10
        ).json()
        assert answer["choices"][0]["message"]["content"] == "from a thread"
        llm.wait_for(lambda requests: requests[0].outcome == "finished")
