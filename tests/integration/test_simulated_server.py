import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest

from millstream.testing.waiting import BOUND_S, until
from millstream_generator.simulated.chat import RequestReader
from millstream_generator.simulated.profiles import FLAKY, Failure

pytestmark = pytest.mark.anyio

LIMIT = aiohttp.ClientTimeout(total=BOUND_S)
SCHEMA = {
    "type": "object",
    "properties": {
        "question": {"type": "string", "minLength": 20, "maxLength": 300},
        "answer": {"type": "string", "minLength": 60, "maxLength": 600},
    },
    "required": ["question", "answer"],
    "additionalProperties": False,
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def start(ready_file: Path, *options: str) -> "subprocess.Popen[bytes]":
    module = "millstream_generator.simulated"
    command = [sys.executable, "-m", module, "--ready-file", str(ready_file), *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


@pytest.fixture
def process(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with start(tmp_path / "ready.json") as server:
        yield server
        server.terminate()
        assert server.wait(BOUND_S) == 0


@pytest.fixture
async def url(process: "subprocess.Popen[bytes]", tmp_path: Path) -> str:
    ready = tmp_path / "ready.json"
    await until(lambda: ready.exists() or process.poll() is not None, what="the ready file")
    told = json.loads(ready.read_text())
    assert told["pid"] == process.pid
    return str(told["url"])


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=LIMIT) as session:
        yield session


def body(**fields: Any) -> dict[str, Any]:
    return {
        "model": "instant",
        "seed": 1,
        "messages": [{"role": "user", "content": "Topic: bailment"}],
        "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
        "stream": True,
        "stream_options": {"include_usage": True},
        **fields,
    }


async def lines(response: aiohttp.ClientResponse) -> list[str]:
    text = (await response.read()).decode()
    assert text.endswith("\n\n")
    return [event.removeprefix("data: ") for event in text.rstrip("\n").split("\n\n")]


async def text_of(response: aiohttp.ClientResponse) -> tuple[str, str]:
    chunks = [json.loads(line) for line in (await lines(response))[:-1]]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    content = "".join(choice["delta"].get("content", "") for choice in choices)
    return content, choices[-1]["finish_reason"]


async def stats(client: aiohttp.ClientSession, url: str) -> dict[str, int]:
    async with client.get(f"{url}/stats") as response:
        return dict(await response.json())


async def until_stats(client: aiohttp.ClientSession, url: str, **wanted: int) -> dict[str, int]:
    async with asyncio.timeout(BOUND_S):
        while True:
            counted = await stats(client, url)
            if {name: counted[name] for name in wanted} == wanted:
                return counted


@pytest.mark.parametrize("model", ["instant", "fast", "custom-20"])
async def test_a_stream_has_chunks_a_finish_a_usage_and_an_end(
    client: aiohttp.ClientSession, url: str, model: str
) -> None:
    async with client.post(f"{url}/v1/chat/completions", json=body(model=model)) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        *events, done = await lines(response)
    assert done == "[DONE]"
    chunks = [json.loads(event) for event in events]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["model"] for chunk in chunks} == {model}
    *content, finish, usage = chunks
    assert len(content) >= 4
    assert content[0]["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in content)
    jsonschema.validate(json.loads(text), SCHEMA)
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == -(-len(text) // 4)
    assert usage["usage"]["total_tokens"] == (
        usage["usage"]["prompt_tokens"] + usage["usage"]["completion_tokens"]
    )


async def test_usage_comes_only_when_asked_for_and_a_whole_answer_equals_the_streamed_one(
    client: aiohttp.ClientSession, url: str
) -> None:
    where = f"{url}/v1/chat/completions"
    async with client.post(where, json=body(stream_options=None)) as response:
        streamed = await text_of(response)
        assert b'"usage"' not in await response.read()
    async with client.post(where, json=body(stream=False)) as response:
        whole = await response.json()
    choice = whole["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == streamed
    assert whole["usage"]["completion_tokens"] > 0


async def test_models_and_health_answer_and_unknown_things_are_named(
    client: aiohttp.ClientSession, url: str
) -> None:
    async with client.get(f"{url}/health") as response:
        assert await response.json() == {"status": "ok"}
    async with client.get(f"{url}/v1/models") as response:
        names = {model["id"] for model in (await response.json())["data"]}
    assert names == {"fast", "slow", "flaky", "stall", "instant"}
    async with client.post(f"{url}/v1/chat/completions", json=body(model="gpt")) as response:
        assert response.status == 404
        assert "model: 'gpt'" in (await response.json())["error"]["message"]
    async with client.post(f"{url}/v1/chat/completions", data=b"{") as response:
        assert response.status == 400
    async with client.get(f"{url}/v1/nothing") as response:
        assert response.status == 404


async def test_a_cancelled_request_frees_the_server_at_once(
    client: aiohttp.ClientSession, url: str
) -> None:
    request = body(model="custom-600000")
    async with client.post(f"{url}/v1/chat/completions", json=request) as response:
        assert response.status == 200
        assert (await stats(client, url))["in_flight"] == 1
        response.close()
    counted = await until_stats(client, url, in_flight=0)
    assert counted == {
        "started": 1,
        "finished": 0,
        "cancelled": 1,
        "failed": 0,
        "in_flight": 0,
        "in_flight_max": 1,
    }


@pytest.mark.parametrize("way", ["header", "user"])
async def test_stall_answers_ten_of_a_batch_and_then_sends_no_token(
    client: aiohttp.ClientSession, url: str, way: str
) -> None:
    async def ask(batch: str, seed: int) -> aiohttp.ClientResponse:
        headers = {"X-Millstream-Batch": batch} if way == "header" else {}
        fields = {"user": batch} if way == "user" else {}
        return await client.post(
            f"{url}/v1/chat/completions",
            json=body(model="stall", seed=seed, **fields),
            headers=headers,
        )

    for seed in range(10):
        async with await ask("batch_1", seed) as response:
            assert (await text_of(response))[1] == "stop"
    async with await ask("batch_1", 10) as stalled:
        assert stalled.status == 200
        async with await ask("batch_2", 0) as other:
            assert (await text_of(other))[1] == "stop"
        # The other batch was answered meanwhile; this one is open and still has nothing to read.
        await until_stats(client, url, in_flight=1)
        assert stalled.content.total_bytes == 0
    await until_stats(client, url, in_flight=0, cancelled=1, finished=11)


def flaky_bodies() -> dict[Failure, bytes]:
    """The first request that fails in each way; who fails is decided by the bytes alone."""
    reader, found = RequestReader(), dict[Failure, bytes]()
    seed = 0
    while len(found) < len(FLAKY):
        raw = json.dumps(body(model="flaky", seed=seed)).encode()
        failure = reader.read(raw).failure
        if failure is not None:
            found.setdefault(failure, raw)
        seed += 1
    return found


async def test_flaky_fails_in_every_way_over_the_wire(
    client: aiohttp.ClientSession, url: str
) -> None:
    found = flaky_bodies()

    def post(failure: Failure) -> Any:
        return client.post(f"{url}/v1/chat/completions", data=found[failure])

    refused: dict[Failure, int] = {"rate_limited": 429, "server_error": 500, "overloaded": 503}
    for refusal, status in refused.items():
        async with post(refusal) as response:
            assert response.status == status
            assert "message" in (await response.json())["error"]
            assert ("Retry-After" in response.headers) == (status == 429)
    broken: tuple[Failure, ...] = ("half_json", "garbage")
    for failure in broken:
        async with post(failure) as response:
            text, reason = await text_of(response)
            assert reason == "stop"
            with pytest.raises(json.JSONDecodeError):
                json.loads(text)
    async with post("nul") as response:
        assert "\0" in json.loads((await text_of(response))[0])["question"]
    async with post("length") as response:
        assert (await text_of(response))[1] == "length"
    async with post("content_filter") as response:
        assert await text_of(response) == ("", "content_filter")
    await until_stats(client, url, failed=8, finished=0)
    async with post("stalled_stream") as response:
        assert b'"content"' in await response.content.readuntil(b"\n\n")
        assert (await stats(client, url))["in_flight"] == 1
    await until_stats(client, url, in_flight=0, cancelled=1)


async def test_a_rate_limit_is_over_once_its_retry_after_has_passed(
    client: aiohttp.ClientSession, url: str
) -> None:
    limited = flaky_bodies()["rate_limited"]
    statuses = []
    async with asyncio.timeout(BOUND_S):
        while 200 not in statuses:
            async with client.post(f"{url}/v1/chat/completions", data=limited) as response:
                await response.read()
                statuses.append(response.status)
    assert set(statuses[:-1]) == {429}


async def test_sigterm_ends_it_with_answers_still_open(
    client: aiohttp.ClientSession, url: str, process: "subprocess.Popen[bytes]"
) -> None:
    request = body(model="custom-600000")
    async with client.post(f"{url}/v1/chat/completions", json=request) as response:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, BOUND_S) == 0
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start(tmp_path / "ready.json", "--port", str(port)) as server:
            _, said = await asyncio.to_thread(server.communicate, None, BOUND_S)
    assert server.returncode == 1
    assert f"127.0.0.1:{port}" in said.decode()
    assert not (tmp_path / "ready.json").exists()
