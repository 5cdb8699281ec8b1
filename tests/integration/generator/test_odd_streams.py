"""Streams that hold more than one answer, less than an event, or numbers that make no sense."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millstream.runtime.settings import load_settings
from millstream.testing import site as sites
from millstream.testing.scripted_llm import Garbage, ScriptedLLM
from millstream_generator.completion import CallFailedError, Completion, Progress, Prompt
from millstream_generator.lanes import Lanes

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),  # litellm's own
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),  # litellm's own
]

PROMPT = Prompt(
    batch_id="batch_1_00000000",
    messages=[{"role": "user", "content": "Why?"}],
    response_format=None,
    max_tokens=77,
    seed=12,
    temperature=0.5,
    top_p=None,
    extra={},
)
DIRECT = pytest.mark.parametrize("lanes", ["direct"], indirect=True)


@pytest.fixture(params=["direct", "litellm"])
async def lanes(request: pytest.FixtureRequest) -> AsyncIterator[Lanes]:
    made = Lanes(load_settings(lane="auto" if request.param == "direct" else "litellm"))
    yield made
    await made.close()


def choice(index: int, text: str) -> dict[str, Any]:
    return {"index": index, "delta": {"content": text}, "finish_reason": "stop"}


async def answer(lanes: Lanes, *events: Any) -> Completion:
    """Return what is read from a stream of these events."""
    lines = [b"data: %b\n\n" % json.dumps(event).encode() for event in events]
    async with ScriptedLLM([Garbage(b"".join(lines) + b"data: [DONE]\n\n")]) as llm:
        route = sites.route(llm.base_url, provider="local")
        return await lanes.complete(route, PROMPT, Progress())


@pytest.mark.parametrize("told", [10**15, 2**63 - 1, 2**64 - 1, 10**30, True, -1, 300.5, "x"])
@DIRECT
async def test_tokens_that_no_call_can_have_used_count_as_untold(lanes: Lanes, told: Any) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": told, "completion_tokens": told}}
    used = (await answer(lanes, {"choices": [choice(0, "Why not")]}, usage)).usage
    assert (used.tokens_in, used.tokens_out, used.cost_nano_usd) == (None, None, None)


@pytest.mark.parametrize("lanes", ["litellm"], indirect=True)
async def test_litellm_counts_where_the_provider_tells_an_absurd_number(lanes: Lanes) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 10**15, "completion_tokens": 2**63}}
    used = (await answer(lanes, {"id": "x", "choices": [choice(0, "Why not")]}, usage)).usage
    assert 0 < (used.tokens_in or 0) < 100
    assert 0 < (used.tokens_out or 0) < 100


async def test_only_the_first_of_several_choices_is_the_answer(lanes: Lanes) -> None:
    chunk = {"id": "x", "choices": [choice(1, "other"), choice(0, "this")]}
    assert (await answer(lanes, chunk)).text == "this"


@DIRECT
async def test_an_event_that_is_no_object_is_passed_over(lanes: Lanes) -> None:
    found = await answer(lanes, None, [1, 2], "text", {"choices": [choice(0, "ok")]})
    assert found.text == "ok"


@pytest.mark.parametrize("host", ["my..host", "a" * 70 + ".example"])
async def test_an_address_that_cant_be_one_is_told_and_nothing_was_sent(
    lanes: Lanes, host: str
) -> None:
    route = sites.route(f"http://{host}/v1", provider="local")
    with pytest.raises(CallFailedError, match="has a host that can't be called") as caught:
        await lanes.complete(route, PROMPT, Progress())
    assert host in caught.value.message
    assert (caught.value.category, caught.value.is_unpaid) == ("invalid_request", True)
