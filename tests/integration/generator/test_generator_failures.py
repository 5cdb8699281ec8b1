"""What the generator makes of calls that fail: retries, failed slots, failed batches."""

import asyncio
import itertools
from typing import Any

import pytest

from millstream.domain.plan import attempt_seed
from millstream.eventlog.server import free_port
from millstream.testing.scripted_llm import (
    Answer,
    Delayed,
    Disconnect,
    Garbage,
    HttpError,
    Ok,
    Request,
    ScriptedLLM,
    Stall,
)
from millstream.testing.site import Site, route, sample
from millstream_generator import policy
from millstream_schemas import slices
from millstream_schemas.errors import ErrorCategory

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),  # litellm's own
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),  # litellm's own
]

HALF_PAIR = (
    b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,'
    b'"delta":{"content":"\\ud83d"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


@pytest.fixture(autouse=True)
def short_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "BACKOFF_MOST_S", 0.1)
    monkeypatch.setattr(policy, "BACKOFF_LEAST_S", 0.1)


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (Ok("Sure! Here is your sample."), "not_json"),
        (Ok('{"question": "What if'), "truncated_json"),
        (Ok('{"question": "What if \x00?", "answer": "No."}'), "control_characters"),
        (Ok('{"question": "What if \\u0000?", "answer": "No."}'), "control_characters"),
        (Ok(""), "empty"),
        (Ok({"question": 5, "answer": "No."}), "schema"),
        (Ok({"question": "What if?"}), "schema"),
        (Ok("[1, 2]"), "schema"),
        (Ok({"question": "Cut", "answer": "off"}, finish_reason="length"), "length"),
        (Garbage(HALF_PAIR), "control_characters"),
    ],
)
async def test_an_unusable_answer_is_kept_with_its_rule_and_asked_for_anew_then_the_slot_fails(
    site: Site, answer: Answer, rule: str
) -> None:
    async with ScriptedLLM([answer]) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 1)
        state = await site.ended(batch_id)
        refused = await site.events(batch_id, slices.SampleRejected)
        (failed,) = await site.events(batch_id, slices.SampleFailed)
    assert (state.state, state.counts.failed, state.counts.rejected) == ("completed", 1, 3)
    assert [event.rule for event in refused] == [rule] * 3
    assert [event.attempt for event in refused] == [1, 2, 3]
    assert failed.category == "validation"
    seeds = [request.body["seed"] for request in llm.requests]
    assert seeds == [attempt_seed(state.spec, 0, number) for number in (1, 2, 3)]
    asked = [request.body["messages"][-1]["content"] for request in llm.requests]
    assert "refused" not in asked[0]
    assert all(refused[0].message[:100] in text for text in asked[1:])


async def test_a_filtered_answer_is_asked_for_once_more(site: Site) -> None:
    filtered = Ok({"question": "?", "answer": "!"}, finish_reason="content_filter")
    async with ScriptedLLM([filtered]) as llm, site.generator():
        state = await site.ended(await site.begin(llm.base_url, 1))
    assert (state.counts.failed, dict(state.errors.items())) == (1, {"content_filter": 2})


async def test_a_repeated_answer_is_refused_and_another_is_taken(site: Site) -> None:
    def answer(request: Request) -> Answer:
        same = Ok({"question": "What is a tort?", "answer": "A wrong."})
        return same if request.index < 2 else sample(request)

    async with ScriptedLLM(answer) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 2)
        state = await site.ended(batch_id)
        (refused,) = await site.events(batch_id, slices.SampleRejected)
    assert (state.counts.generated, refused.rule) == (2, "duplicate")


async def test_a_rate_limit_is_waited_out_and_uses_no_attempt(site: Site) -> None:
    limited = HttpError(429, headers={"Retry-After": "1"})

    def answer(request: Request) -> Answer:
        return limited if request.index < 4 else sample(request)

    async with ScriptedLLM(answer) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 1, max_attempts=1)
        state = await site.ended(batch_id)
        failures = await site.events(batch_id, slices.SampleAttemptFailed)
        (made,) = await site.events(batch_id, slices.SampleGenerated)
    assert (state.counts.generated, state.counts.attempts_failed) == (1, 4)
    assert {event.category for event in failures} == {"rate_limit"}
    assert all(1.0 <= event.retry_in_s <= 2.0 for event in failures)
    starts = [request.started_at for request in llm.requests]
    assert all(later - earlier >= 1.0 for earlier, later in itertools.pairwise(starts))
    assert made.attempt == 1


async def test_server_errors_are_retried_until_one_call_succeeds(site: Site) -> None:
    def answer(request: Request) -> Answer:
        return (HttpError(500), Disconnect(), sample(request))[min(request.index, 2)]

    async with ScriptedLLM(answer) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 1)
        state = await site.ended(batch_id)
        failures = await site.events(batch_id, slices.SampleAttemptFailed)
    assert (state.counts.generated, state.counts.attempts_failed) == (1, 2)
    assert [event.category for event in failures] == ["server", "server"]


@pytest.mark.parametrize(
    ("answer", "category"),
    [
        (HttpError(503), "server"),
        (Garbage(), "server"),
        (Stall(after_chunks=2), "timeout"),
        (Stall(), "timeout"),
    ],
)
async def test_a_batch_of_which_no_call_is_answered_fails_after_a_while_and_loses_no_slot_before(
    site: Site, answer: Answer, category: ErrorCategory
) -> None:
    async with ScriptedLLM([answer]) as llm, site.generator(unanswered_s=1.5):
        batch_id = await site.begin([route(llm.base_url, stall_s=0.5)], 1)
        state = await site.ended(batch_id)
        failures = await site.events(batch_id, slices.SampleAttemptFailed)
    assert (state.state, state.counts.failed, state.counts.abandoned) == ("failed", 0, 1)
    assert len(failures) >= 2
    assert {(event.category, event.attempt) for event in failures} == {(category, 1)}
    assert state.error is not None
    assert state.error.category == category
    assert f"{llm.base_url} answers, but with no completion" in state.error.message
    if category == "timeout":
        assert all(request.outcome == "cancelled" for request in llm.requests)


@pytest.mark.parametrize("status", [400, 422])
async def test_a_request_that_is_refused_is_not_sent_again(site: Site, status: int) -> None:
    async with ScriptedLLM([HttpError(status)]) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 1)
        state = await site.ended(batch_id)
        (failure,) = await site.events(batch_id, slices.SampleAttemptFailed)
    assert (state.state, state.counts.failed) == ("completed", 1)
    assert (failure.category, failure.retry_in_s) == ("invalid_request", None)


async def test_an_endpoint_that_refuses_connections_counts_as_a_server_error(site: Site) -> None:
    async with site.generator(unanswered_s=1.5):
        batch_id = await site.begin(f"http://127.0.0.1:{free_port()}/v1", 2)
        state = await site.ended(batch_id)
    assert (state.state, state.counts.generated, state.counts.failed) == ("failed", 0, 0)
    assert set(state.errors) == {"server"}
    assert state.error is not None
    assert "check that it runs" in state.error.message


async def test_a_slot_is_given_up_while_others_are_answered(site: Site) -> None:
    def answer(request: Request) -> Answer:
        fails = request.body["seed"] in seeds
        return Delayed(HttpError(503) if fails else sample(request), 0.05)

    async with ScriptedLLM(answer) as llm:
        batch_id = await site.begin(llm.base_url, 80, concurrency=4)
        state = await site.state(batch_id)
        seeds = {attempt_seed(state.spec, 0, number) for number in range(1, 9)}
        async with site.generator():
            counts = (await site.ended(batch_id)).counts
    assert (counts.generated, counts.failed) == (79, 1)


@pytest.mark.parametrize(
    ("status", "category"),
    [(401, "auth"), (402, "auth"), (403, "auth"), (404, "invalid_request")],
)
async def test_a_wrong_key_or_an_unknown_model_fails_the_batch_after_a_few_calls(
    site: Site, monkeypatch: pytest.MonkeyPatch, status: int, category: str
) -> None:
    key = "0123abcd4567wxyz"
    monkeypatch.setenv("SITE_KEY", key)
    refusal = HttpError(status, {"error": {"message": f"the key {key} may not use this model"}})
    async with ScriptedLLM([refusal]) as llm, site.generator():
        batch_id = await site.begin([route(llm.base_url, api_key_env="SITE_KEY")], 1000)
        state = await site.ended(batch_id)
    assert (state.state, state.counts.generated) == ("failed", 0)
    assert state.error is not None
    assert state.error.category == category
    assert "may not use this model" in state.error.message
    assert key not in repr(await _everything(site, batch_id))
    assert len(llm.requests) <= 8
    assert all(request.authorization_sent for request in llm.requests)


async def _everything(site: Site, batch_id: str) -> list[Any]:
    return [event.model_dump() for event in await site.history(batch_id)]


async def test_a_missing_key_fails_the_batch_with_the_name_of_its_variable(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SITE_KEY", raising=False)
    async with ScriptedLLM([HttpError(500)]) as llm, site.generator():
        batch_id = await site.begin([route(llm.base_url, api_key_env="SITE_KEY")], 10)
        state = await site.ended(batch_id)
    assert state.error is not None
    assert (state.state, state.error.category, llm.requests) == ("failed", "auth", [])
    assert "set SITE_KEY where the generator runs" in state.error.message


async def test_a_model_without_a_server_on_any_node_fails_the_batch(site: Site) -> None:
    async with site.generator():
        way = route("", api_base=None, provider="simulated", model="simulated/fast")
        state = await site.ended(await site.begin([way], 10))
    assert state.state == "failed"
    assert state.error is not None
    assert "MILLSTREAM_SIMULATED_URL" in state.error.message


async def test_requests_that_are_all_refused_fail_the_batch(site: Site) -> None:
    async with ScriptedLLM([HttpError(400)]) as llm, site.generator():
        state = await site.ended(await site.begin(llm.base_url, 1000))
    assert (state.state, state.counts.generated) == ("failed", 0)
    assert len(llm.requests) < 30


async def test_a_model_that_goes_away_in_mid_batch_fails_it(site: Site) -> None:
    def answer(request: Request) -> Answer:
        return sample(request) if request.index < 20 else HttpError(404)

    async with ScriptedLLM(answer) as llm, site.generator():
        state = await site.ended(await site.begin(llm.base_url, 1000))
    assert (state.state, state.counts.generated) == ("failed", 20)
    assert state.error is not None
    assert "check the model test/model" in state.error.message
    assert len(llm.requests) < 80


@pytest.mark.parametrize("answer", [HttpError(401), HttpError(404), HttpError(500), Stall()])
async def test_a_slot_fails_over_to_the_second_route(site: Site, answer: Answer) -> None:
    async with (
        ScriptedLLM([answer]) as first,
        ScriptedLLM(sample) as second,
        site.generator(),
    ):
        ways = [
            route(first.base_url, provider="first", stall_s=0.5),
            route(second.base_url, provider="second"),
        ]
        batch_id = await site.begin(ways, 10)
        state = await site.ended(batch_id)
        made = await site.events(batch_id, slices.SampleGenerated)
    assert (state.state, state.counts.generated) == ("completed", 10)
    assert {event.provider for event in made} == {"second"}
    assert len(second.requests) == 10


async def test_a_batch_fails_when_the_last_route_refuses_the_key_too(site: Site) -> None:
    async with ScriptedLLM([HttpError(401)]) as llm, site.generator():
        ways = [route(llm.base_url, provider="first"), route(llm.base_url, provider="second")]
        state = await site.ended(await site.begin(ways, 100))
    assert (state.state, state.counts.generated) == ("failed", 0)


async def test_what_a_failed_batch_leaves_does_not_keep_the_node_from_the_next(site: Site) -> None:
    async with (
        ScriptedLLM([HttpError(401)]) as bad,
        ScriptedLLM(sample) as good,
        site.generator(node_concurrency=2),
        asyncio.TaskGroup() as tasks,
    ):
        failed = [tasks.create_task(_state(site, bad.base_url)) for _ in range(3)]
        whole = tasks.create_task(_state(site, good.base_url))
        await asyncio.wait([*failed, whole])
    assert [task.result() for task in failed] == ["failed"] * 3
    assert whole.result() == "completed"


async def _state(site: Site, url: str) -> str:
    return (await site.ended(await site.begin(url, 10))).state
