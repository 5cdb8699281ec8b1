"""Every kind of broken answer over real HTTP: it costs an attempt, and the slot is filled."""

import pytest

from millstream.testing import site as sites
from millstream.testing.scripted_llm import (
    Answer,
    Disconnect,
    Garbage,
    HttpError,
    Ok,
    Request,
    ScriptedLLM,
    Stall,
)
from millstream.testing.site import Site, sample
from millstream_schemas import slices

pytestmark = pytest.mark.anyio

JSON = "application/json"
PAGE = b"<html><body>Back in five minutes</body></html>"


def chunk(delta: str) -> bytes:
    """Return a stream of one event with ``delta``, as JSON, and an end."""
    choice = b'{"index": 0, "delta": %b, "finish_reason": "stop"}' % delta.encode()
    return b'data: {"id": "x", "choices": [%b]}\n\ndata: [DONE]\n\n' % choice


@pytest.mark.parametrize(
    ("broken", "category"),
    [
        (Garbage(chunk('{"content": 5}')), "server"),
        (Garbage(chunk('"text"')), "server"),
        (Garbage(b'data: {"choices": 7}\n\n'), "server"),
        (Garbage(b"data: [1, 2]\n\n"), "server"),
        (Garbage(b'data: {"choices": [{"delta": {"content": "hal'), "server"),
        (Garbage(b'data: {"error": {"message": "overloaded"}}\n\n'), "server"),
        (Garbage(b'data: {"error": {"message": "slow down", "code": 429}}\n\n'), "rate_limit"),
        (Garbage(b'data: {"error": {"type": "rate_limit_error"}}\n\n'), "rate_limit"),
        (Garbage(b'{"error": {\n"message": "no", "code": "408"}}', JSON), "timeout"),
        (Garbage(b'{"error": {"message": "boom"}}', JSON), "server"),
        (Disconnect(2), "server"),
        (Stall(2), "timeout"),
        (Ok('{"question": "half'), "validation"),
        (Ok(""), "validation"),
        (Ok("x" * 400_000), "validation"),
        (Ok({"question": "What if?", "answer": "I'm sorry, but I can't help with that."}), None),
        (HttpError(500, "<html>"), "server"),
        (HttpError(529), "server"),
        (HttpError(408), "timeout"),
    ],
)
async def test_a_broken_answer_is_followed_by_a_good_one(
    direct_site: Site, broken: Answer, category: str | None
) -> None:
    def answer(request: Request) -> Answer:
        return broken if request.index == 1 else sample(request)

    async with ScriptedLLM(answer) as llm, direct_site.generator():
        batch_id = await direct_site.begin(
            [sites.route(llm.base_url, provider="simulated", stall_s=0.3)], 4
        )
        state = await direct_site.ended(batch_id)
    assert (state.state, state.counts.generated, state.counts.failed) == ("completed", 4, 0)
    assert state.counts.attempts_failed + state.counts.rejected == 1
    assert category is None or dict(state.errors.items()) == {category: 1}


async def test_a_balancers_page_after_an_answer_costs_no_slot_and_one_before_does_not_end_the_batch(
    direct_site: Site,
) -> None:
    def answer(request: Request) -> Answer:
        return Garbage(PAGE, "text/html") if request.index in {0, 2} else sample(request)

    async with ScriptedLLM(answer) as llm, direct_site.generator():
        ways = [sites.route(llm.base_url, provider="simulated", max_concurrency=1)]
        state = await direct_site.ended(await direct_site.begin(ways, 4))
    assert (state.state, state.counts.generated, state.counts.failed) == ("completed", 3, 1)
    assert dict(state.errors.items()) == {"invalid_request": 1, "server": 1}


async def test_an_address_that_cant_be_one_ends_the_batch_at_once_and_counts_no_call(
    direct_site: Site,
) -> None:
    async with direct_site.generator():
        ways = [sites.route("http://my..host/v1", provider="simulated")]
        state = await direct_site.ended(await direct_site.begin(ways, 4))
        claims = await direct_site.events(state.batch_id, slices.SliceClaimed)
    assert (state.state, state.counts.unconfirmed_calls) == ("failed", 0)
    assert {claim.after.epoch for claim in claims} == {1}
    assert state.error is not None
    assert "my..host" in state.error.message
    assert "host that can't be called; write one such as" in state.error.message
