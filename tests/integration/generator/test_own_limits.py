"""A batch that waits for its route's own limit says so, as it says of a provider's."""

import pytest

from millstream.testing.scripted_llm import Answer, Delayed, Request, ScriptedLLM
from millstream.testing.site import Site, route, sample
from millstream_generator import own_limits
from millstream_schemas import notes
from millstream_schemas.commands import StopBatch

pytestmark = pytest.mark.anyio


async def test_a_batch_says_until_when_a_limit_of_its_route_lets_none_of_its_calls_start(
    direct_site: Site,
) -> None:
    async with ScriptedLLM(sample) as llm, direct_site.generator():
        slow = route(llm.base_url, provider="simulated", rpm=6)
        batch_id = await direct_site.begin([slow], 20, concurrency=20)
        state = await direct_site.reach(batch_id, lambda state: state.held_up is not None)
        told = await direct_site.events(batch_id, notes.RouteThrottled)
        await direct_site.command(batch_id, StopBatch())
        await direct_site.ended(batch_id)
    waits = state.held_up
    assert waits is not None
    assert (waits.kind, waits.model) == ("throttled", slow.model)
    assert waits.message.endswith("UTC: its limit of 6 requests per minute")
    assert 3 < (waits.until - waits.since).total_seconds() <= 10.5
    assert len(told) == 1


async def test_a_batch_says_that_other_calls_take_all_that_its_route_allows(
    direct_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_limits, "HOLD_S", 0.5)

    def answer(request: Request) -> Answer:
        return Delayed(sample(request), 60.0)

    async with ScriptedLLM(answer) as llm, direct_site.generator():
        narrow = route(llm.base_url, provider="simulated", max_concurrency=1)
        first = await direct_site.begin([narrow], 4)
        await llm.wait_for(lambda requests: len(requests) == 1)
        second = await direct_site.begin([narrow], 4)
        state = await direct_site.reach(second, lambda state: state.held_up is not None)
        busy = await direct_site.state(first)
        for batch_id in (first, second):
            await direct_site.command(batch_id, StopBatch())
            await direct_site.ended(batch_id)
    assert state.held_up is not None
    assert "the one call in flight that its limit allows is taken" in state.held_up.message
    assert busy.held_up is None


async def test_a_limit_that_only_sets_the_pace_holds_no_batch_up(direct_site: Site) -> None:
    async with ScriptedLLM(sample) as llm, direct_site.generator():
        paced = route(llm.base_url, provider="simulated", rpm=600)
        batch_id = await direct_site.begin([paced], 30, concurrency=30)
        await direct_site.ended(batch_id)
        told = await direct_site.events(batch_id, notes.RouteThrottled)
    assert told == []
