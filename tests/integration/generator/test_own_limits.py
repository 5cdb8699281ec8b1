"""A batch that waits for its route's own pace says so, as it says of a provider's limit."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from millstream.domain.decide import Stamp
from millstream.runtime.clock import new_id, utc_now
from millstream.testing.scripted_llm import Answer, Delayed, Request, ScriptedLLM
from millstream.testing.site import Site, route, sample
from millstream.testing.waiting import BOUND_S
from millstream_generator import own_limits, route_notes
from millstream_generator.gate import Gate
from millstream_schemas import notes, subjects
from millstream_schemas.commands import StopBatch
from millstream_schemas.envelope import Actor

pytestmark = pytest.mark.anyio

Looks = Callable[[str, int], Awaitable[None]]
LOOK_S = 0.05


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """Let nodes look often; the function waits for so many looks at a line with the batch in it."""
    seen: list[str] = []

    def counted(gate: Gate) -> dict[str, own_limits.OwnWait]:
        seen.extend({waiter.batch_id for waiter in gate.line.waiting()})
        return own_limits.own_waits(gate)

    monkeypatch.setattr(route_notes, "LOOK_S", LOOK_S)
    monkeypatch.setattr(route_notes, "HOLD_S", 1.0)
    monkeypatch.setattr(route_notes, "own_waits", counted)

    async def wait(batch_id: str, number: int) -> None:
        number += seen.count(batch_id)
        async with asyncio.timeout(BOUND_S):
            while seen.count(batch_id) < number:
                await asyncio.sleep(LOOK_S)

    return wait


async def stop(site: Site, *batch_ids: str) -> None:
    for batch_id in batch_ids:
        await site.command(batch_id, StopBatch())
        await site.ended(batch_id)


async def test_a_batch_says_until_when_the_pace_of_its_route_lets_none_of_its_calls_start(
    direct_site: Site,
) -> None:
    """The gaps are of 6 s, with five of them left at the second or third look."""
    async with ScriptedLLM(sample) as llm, direct_site.generator():
        slow = route(llm.base_url, provider="simulated", rpm=10)
        batch_id = await direct_site.begin([slow], 20, concurrency=20)
        state = await direct_site.reach(batch_id, lambda state: state.held_up is not None)
        await stop(direct_site, batch_id)
    waits = state.held_up
    assert waits is not None
    assert (waits.kind, waits.model) == ("throttled", slow.model)
    assert waits.message.endswith("UTC: its limit of 10 requests per minute")
    assert 0.5 < (waits.until - waits.since).total_seconds() <= 6.1


@pytest.mark.parametrize("nodes", [1, 2])
async def test_each_wait_is_told_once_by_however_many_nodes(
    direct_site: Site, looks: Looks, nodes: int
) -> None:
    """Looks are many: three calls 2 s apart leave two waits to tell of."""
    async with ScriptedLLM(sample) as llm, contextlib.AsyncExitStack() as generators:
        for number in range(nodes):
            await generators.enter_async_context(direct_site.generator(f"g{number}"))
        paced = route(llm.base_url, provider="simulated", rpm=30)
        batch_id = await direct_site.begin([paced], 3, slice_size=1, concurrency=3)
        await looks(batch_id, 20)
        state = await direct_site.ended(batch_id)
        told = await direct_site.events(batch_id, notes.RouteThrottled)
    assert state.counts.generated == 3
    assert 1 <= len(told) <= 2


async def test_a_note_of_a_wait_goes_when_another_node_makes_calls(direct_site: Site) -> None:
    """The note is of a node that has died since, say; it would stand for a minute."""
    async with ScriptedLLM(sample) as llm, direct_site.generator("g1"):
        paced = route(llm.base_url, provider="simulated", rpm=40)
        batch_id = await direct_site.begin([paced], 100, concurrency=10)
        await direct_site.reach(batch_id, lambda state: state.counts.generated >= 1)
        await tell_of_a_wait(direct_site, batch_id, paced.model, "g9")
        before = await direct_site.state(batch_id)
        await direct_site.reach(batch_id, lambda state: state.held_up is None)
        recovered = await direct_site.events(batch_id, notes.RouteRecovered)
        await stop(direct_site, batch_id)
    assert before.held_up is not None
    assert before.held_up.message == "of g9"
    assert len(recovered) == 1


async def tell_of_a_wait(site: Site, batch_id: str, model: str, node: str) -> None:
    """Write the note of another node that the batch waits for a minute."""
    stamp = Stamp(new_id, utc_now(), Actor(kind="node", id=node), "test")
    event = notes.RouteThrottled(
        **stamp.envelope(batch_id, subjects.note(batch_id)),
        model=model,
        until=utc_now() + timedelta(seconds=60),
        message=f"of {node}",
    )
    last = await site.log.event_log.last(subjects.note(batch_id))
    await site.log.event_log.append(event, expected=last.sequence if last else 0)


async def test_a_batch_waits_for_the_calls_before_its_own(direct_site: Site) -> None:
    async with ScriptedLLM(sample) as llm, direct_site.generator():
        slow = route(llm.base_url, provider="simulated", rpm=6)
        first = await direct_site.begin([slow], 4, concurrency=4)
        before = await direct_site.reach(first, lambda state: state.held_up is not None)
        second = await direct_site.begin([slow], 2, concurrency=2)
        behind = await direct_site.reach(second, lambda state: state.held_up is not None)
        await stop(direct_site, first, second)
    assert before.held_up is not None
    assert behind.held_up is not None
    assert (behind.held_up.until - before.held_up.until).total_seconds() > 15


@pytest.mark.parametrize("rpm", [None, 60])
async def test_a_batch_says_nothing_of_calls_in_flight_that_it_waits_for(
    direct_site: Site, looks: Looks, rpm: int | None
) -> None:
    """Nobody knows when they end; one may be its own on another node, and hang there."""

    def answer(request: Request) -> Answer:
        return Delayed(sample(request), 60.0)

    async with ScriptedLLM(answer) as llm, direct_site.generator("g1"):
        narrow = route(llm.base_url, provider="simulated", max_concurrency=1, rpm=rpm)
        hanging = await direct_site.begin([narrow], 20, concurrency=20)
        await llm.wait_for(lambda requests: len(requests) == 1)
        async with direct_site.generator("g2"):
            batch_id = await direct_site.begin([narrow], 20, concurrency=20)
            await looks(batch_id, 60)
            state = await direct_site.state(batch_id)
            await stop(direct_site, hanging, batch_id)
    assert state.held_up is None
    assert len(llm.requests) <= 2


async def test_a_limit_that_only_sets_the_pace_holds_no_batch_up(direct_site: Site) -> None:
    async with ScriptedLLM(sample) as llm, direct_site.generator():
        paced = route(llm.base_url, provider="simulated", rpm=600)
        batch_id = await direct_site.begin([paced], 30, concurrency=30)
        await direct_site.ended(batch_id)
        told = await direct_site.events(batch_id, notes.RouteThrottled)
    assert told == []
