"""The model server that counts, and the proxy that makes a client deaf: the benches' witnesses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from millstream.eventlog.server import NatsServer, free_port
from millstream.testing.counting_llm import BATCH_HEADER, Behaviour, behaviour_of
from millstream.testing.deaf import DeafProxy
from millstream.testing.made_up import made_up_answer
from millstream.testing.service_process import ServiceProcess
from millstream.testing.stack import wait_until
from millstream.testing.waiting import BOUND_S

SCHEMA = {
    "topic": {"type": "string", "const": "Torts"},
    "question": {"type": "string", "minLength": 200, "maxLength": 220},
    "level": {"enum": ["basic", "advanced"]},
}
FORMAT = {"type": "json_schema", "json_schema": {"schema": {"properties": SCHEMA}}}


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[str]:
    """A counting server in a process of its own; its address."""
    port = free_port()
    log_file = tmp_path / "llm.log"
    with ServiceProcess("millstream.testing.counting_llm", log_file, port=str(port)):
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                return httpx.get(f"{url}/health", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answers, BOUND_S, "a counting server")
        yield url


def complete(url: str, model: str, batch_id: str, seed: int = 1) -> httpx.Response:
    body = {"model": model, "messages": [], "seed": seed, "response_format": FORMAT, "stream": True}
    headers = {BATCH_HEADER: batch_id}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=10)


def calls(url: str, batch_id: str) -> list[dict[str, Any]]:
    return list(httpx.get(f"{url}/calls/{batch_id}", timeout=5).json())


def test_each_batchs_calls_are_told_in_order_with_what_became_of_them(counting: str) -> None:
    assert complete(counting, "ms-5", "one", seed=7).text.endswith("data: [DONE]\n\n")
    assert complete(counting, "error-429", "one", seed=8).status_code == 429
    assert complete(counting, "ms-5", "other").status_code == 200
    found = calls(counting, "one")
    assert [(call["seed"], call["outcome"]) for call in found] == [(7, "answered"), (8, "refused")]
    assert found[0]["arrived_at"] < found[0]["ended_at"] < found[1]["arrived_at"]
    httpx.delete(f"{counting}/calls/one", timeout=5)
    assert (calls(counting, "one"), len(calls(counting, "other"))) == ([], 1)


def test_a_caller_that_goes_away_is_told_as_cancelled(counting: str) -> None:
    body = {"model": "ms-60000", "messages": [], "stream": True}
    with httpx.stream("POST", f"{counting}/v1/chat/completions", json=body, timeout=10):
        count = httpx.get(f"{counting}/count/", timeout=5).json()
    assert count == {"arrived": 1, "open": 1}
    wait_until(lambda: calls(counting, "")[0]["outcome"] == "cancelled", BOUND_S)


def test_a_model_fails_from_its_nth_call_on(counting: str) -> None:
    answers = [complete(counting, "error-500-after-2", "b").status_code for _ in range(4)]
    assert answers == [200, 200, 500, 500]
    assert complete(counting, "gpt", "b").status_code == 400


def test_a_models_name_says_how_it_behaves() -> None:
    assert behaviour_of("ms-250") == Behaviour(0.25)
    assert behaviour_of("error-503").status == 503
    with pytest.raises(ValueError, match="use ms-<n>"):
        behaviour_of("ms-fast")


def test_a_made_up_answer_keeps_to_its_schema_and_no_two_are_alike() -> None:
    first, second = (orjson.loads(made_up_answer(FORMAT, seed)) for seed in (1, 2))
    assert first["topic"] == "Torts"
    assert first["level"] in {"basic", "advanced"}
    assert 200 <= len(first["question"]) <= 220
    assert first["question"] != second["question"]
    assert orjson.loads(made_up_answer(FORMAT, 1)) == first


@pytest.mark.anyio
async def test_a_deaf_client_hears_all_but_the_chosen_subject(nats_server: NatsServer) -> None:
    heard: list[str] = []

    async def take(message: Msg) -> None:
        heard.append(message.subject)

    async with DeafProxy(nats_server.port, ["deaf.*"]) as proxy:
        client = Client()
        await client.connect(proxy.url)
        for subject in ("deaf.*", "heard"):
            await client.subscribe(subject, cb=take)
        await client.publish("deaf.one", b"SUB deaf.* 9\r\n")
        await client.publish("heard", b"x" * 100_000)
        await client.drain()
    assert heard == ["heard"]
    assert proxy.swallowed == {"deaf.*"}
