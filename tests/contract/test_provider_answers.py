"""What comes back from each provider family: whole answers, refusals, broken and silent streams."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from millstream.openai_wire import Usage as WireUsage
from millstream.testing.scripted_llm import Answer, Disconnect, Garbage, HttpError, Ok, Stall
from millstream.testing.waiting import until
from millstream.testing.wire_families import COHERE_OWN, HUGGING_FACE, MAIN_FAMILIES, Family
from millstream.testing.wire_forms import ANSWER_ID
from millstream.testing.wire_server import WireServer
from millstream_generator.completion import CallFailedError, Completion, Progress, Prompt
from millstream_generator.lanes import Lanes
from millstream_generator.litellm_setup import litellm
from millstream_schemas.routes import Route

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),  # litellm's own
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),  # litellm's own
    pytest.mark.filterwarnings("ignore:Items .* on TypedDict class:UserWarning"),  # litellm's own
]

Call = Callable[..., Any]
CATEGORIES = {401: "auth", 403: "auth", 429: "rate_limit", 500: "server", 503: "server"}
MADE_UP = {"Gemini": pytest.mark.xfail(strict=True, reason="litellm makes up a finish and tokens")}
REFUSED_KEYS = {
    "Gemini": '{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.",'
    '"status":"INVALID_ARGUMENT"}}',
    "xAI": '{"code":"Client specified an invalid argument","error":"Incorrect API key provided."}',
    "Anthropic": '{"type":"error","error":{"type":"invalid_request_error","message":'
    '"Your credit balance is too low to access the Anthropic API."}}',
}
"""What is told with status 400, where others say 401 or 402."""
each_family = pytest.mark.parametrize("family", MAIN_FAMILIES, ids=lambda family: family.name)
filtering = pytest.mark.parametrize(
    "family",
    [family for family in MAIN_FAMILIES if family.wire.filtered() is not None],
    ids=lambda family: family.name,
)


@pytest.fixture
def call(lanes: Lanes, route_to: Callable[..., Route], prompt: Prompt) -> Call:
    """Makes one call to a provider that gives that answer."""

    async def make(family: Family, answer: Answer, **changes: Any) -> Completion:
        async with WireServer(family.wire, [answer]) as server:
            route = route_to(family, server.origin, **changes)
            return await lanes.complete(route, prompt, Progress())

    return make


@pytest.fixture
def failure(call: Call, key: str) -> Call:
    """Makes one call that must fail, in words without the key."""

    async def make(family: Family, answer: Answer, **changes: Any) -> CallFailedError:
        with pytest.raises(CallFailedError) as caught:
            await call(family, answer, **changes)
        assert key not in caught.value.message
        assert key not in str(caught.value)
        return caught.value

    return make


@each_family
async def test_an_answer_comes_whole_with_its_tokens_and_cost(family: Family, call: Call) -> None:
    answer = await call(family, Ok({"a": "ü€😀"}, chunks=7, usage=WireUsage(100, 50)))
    assert answer.text == '{"a":"ü€😀"}'
    assert answer.finish_reason == "stop"
    assert (answer.usage.tokens_in, answer.usage.tokens_out) == (100, 50)
    assert answer.usage.cost_nano_usd == 200_000
    assert answer.usage.first_token_ms is not None
    assert answer.request_id
    assert (answer.request_id == ANSWER_ID) == family.tells_id


@pytest.mark.parametrize(
    "family",
    [family for family in MAIN_FAMILIES if family.lane == "litellm"],
    ids=lambda family: family.name,
)
async def test_an_answer_is_read_past_litellms_wrapper(
    family: Family, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    await call(family, Ok({"a": "b"}))  # what loads litellm reads a chunk or two through it
    through: list[object] = []
    monkeypatch.setattr(litellm.CustomStreamWrapper, "__anext__", through.append)
    answer = await call(family, Ok({"a": "b"}, chunks=7))
    assert answer.text == '{"a":"b"}'
    assert not through


@each_family
async def test_an_answer_that_met_its_limit_says_so(family: Family, call: Call) -> None:
    answer = await call(family, Ok("cut off", finish_reason="length"))
    assert answer.finish_reason == ("length" if family.tells_length else "stop")


@each_family
async def test_a_refusal_falls_into_its_category_and_costs_nothing(
    family: Family, failure: Call, key: str
) -> None:
    told = key if family.key_env else "none"
    found = {}
    for status in CATEGORIES:
        body = family.wire.refusal(status, f"the key {told} is refused").decode()
        error = await failure(family, HttpError(status, body))
        found[status] = error.category
        assert error.is_unpaid
    assert found == CATEGORIES


@pytest.mark.parametrize(
    "family",
    [family for family in MAIN_FAMILIES if family.name in REFUSED_KEYS],
    ids=lambda family: family.name,
)
async def test_a_refused_key_is_one_with_status_400_too(family: Family, failure: Call) -> None:
    error = await failure(family, HttpError(400, REFUSED_KEYS[family.name]))
    assert error.category == "auth"


@each_family
async def test_a_rate_limit_tells_how_long_to_wait(family: Family, failure: Call) -> None:
    error = await failure(family, HttpError(429, headers={"Retry-After": "7"}))
    assert (error.category, error.retry_after_s) == ("rate_limit", 7)


@filtering
async def test_a_prompt_refused_for_its_content_is_told(
    family: Family, call: Call, failure: Call
) -> None:
    status, body = family.wire.filtered() or (0, b"")
    if status == 200:
        answer = await call(family, Garbage(body, family.wire.content_type))
        assert (answer.text, answer.finish_reason) == ("", "content_filter")
    else:
        error = await failure(family, HttpError(status, body.decode()))
        assert error.category == "content_filter"


@each_family
async def test_an_answer_held_back_for_its_content_is_told(family: Family, call: Call) -> None:
    answer = await call(family, Ok("", finish_reason="content_filter"))
    assert (answer.text, answer.finish_reason == "content_filter") == ("", family.tells_length)


@each_family
async def test_a_connection_that_breaks_in_the_middle_is_a_server_error_and_may_be_paid(
    family: Family, failure: Call
) -> None:
    error = await failure(family, Disconnect(after_chunks=2))
    assert (error.category, error.is_unpaid) == ("server", False)


@pytest.mark.parametrize(
    "family",
    [pytest.param(item, marks=MADE_UP.get(item.name, ())) for item in MAIN_FAMILIES],
    ids=lambda family: family.name,
)
async def test_a_stream_that_ends_in_the_middle_is_a_server_error_and_may_be_paid(
    family: Family, failure: Call
) -> None:
    begun = family.wire.opening() + family.wire.piece("This answer")
    error = await failure(family, Garbage(begun, family.wire.content_type))
    assert (error.category, error.is_unpaid) == ("server", False)


@each_family
async def test_an_error_in_the_middle_of_a_stream_is_a_server_error_and_may_be_paid(
    family: Family, failure: Call
) -> None:
    begun = family.wire.opening() + family.wire.piece("This")
    broken = begun + family.wire.failing("Overloaded")
    error = await failure(family, Garbage(broken, family.wire.content_type))
    assert (error.category, error.is_unpaid) == ("server", False)
    if family.is_live:
        assert "Overloaded" in error.message


def document(status: int, content_type: str = "application/json") -> Garbage:
    """Return an error as proxies send it with status 200: as a document, in place of a stream."""
    body = b'{"error": {"message": "no more\\ntoday", "code": %d}}' % status
    return Garbage(body, content_type)


@each_family
async def test_a_document_with_an_error_in_place_of_a_stream_has_the_category_that_it_tells(
    family: Family, failure: Call
) -> None:
    error = await failure(family, document(429))
    assert (error.category, error.is_unpaid) == ("rate_limit", True)
    assert "no more today" in error.message


async def test_openais_client_within_litellm_does_not_hide_a_document_with_an_error(
    litellm_lane: Lanes, route_to: Callable[..., Route], prompt: Prompt
) -> None:
    family = next(family for family in MAIN_FAMILIES if family.name == "OpenAI")
    for status, content_type in ((429, "application/json"), (500, "text/event-stream")):
        async with WireServer(family.wire, [document(status, content_type)]) as server:
            with pytest.raises(CallFailedError, match="no more today") as caught:
                await litellm_lane.complete(route_to(family, server.origin), prompt, Progress())
        error = caught.value
        assert (error.category, error.is_unpaid) == (CATEGORIES[status], status == 429)


@each_family
async def test_a_silent_stream_is_a_timeout(family: Family, failure: Call) -> None:
    # Where nothing is streamed, silence is all there is to hear: the whole call's bound holds.
    bound = {"stall_s": 0.2} if family.is_live else {"timeout_s": 0.4}
    error = await failure(family, Stall(after_chunks=1), **bound)
    assert error.category == "timeout"


@each_family
async def test_a_cancelled_call_closes_its_connection(
    family: Family, lanes: Lanes, route_to: Callable[..., Route], prompt: Prompt
) -> None:
    async with WireServer(family.wire, [Stall(after_chunks=1)]) as server:
        progress = Progress()
        route = route_to(family, server.origin)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(lanes.complete(route, prompt, progress))
            await server.wait_for(bool)
            if family.is_live:
                await until(lambda: progress.characters > 0, what="the first token")
            task.cancel()
        await server.wait_for(lambda requests: requests[0].outcome == "cancelled")


@pytest.mark.xfail(strict=True, reason="litellm does not read the events of Cohere's version 2")
async def test_cohere_answers_in_its_own_form(call: Call) -> None:
    answer = await call(COHERE_OWN, Ok({"a": "b"}))
    assert answer.text == '{"a":"b"}'


async def test_hugging_face_answers(call: Call) -> None:
    answer = await call(HUGGING_FACE, Ok({"a": "b"}))
    assert answer.text == '{"a":"b"}'
