"""The gates of routes beside a real bucket: what they cost, and what they do without it."""

import asyncio
import random
import socket
from contextlib import AsyncExitStack

import pytest
from nats.aio.msg import Msg

from millstream.domain import permits
from millstream.eventlog.answers import subscribed
from millstream.eventlog.limits import WATCH, SharedLimits, route_key
from millstream.eventlog.nodes import Nodes
from millstream.testing import site as sites
from millstream.testing.scripted_answers import Delayed, HttpError
from millstream.testing.scripted_llm import Answer, Request, ScriptedLLM
from millstream.testing.site import Site, sample
from millstream.testing.waiting import BOUND_S
from millstream_generator import gate
from millstream_generator.completion import CallFailedError
from millstream_generator.condition import Condition
from millstream_schemas.slices import CallsAnnounced, SliceEvent

pytestmark = pytest.mark.anyio


async def test_a_route_without_limits_and_trouble_costs_no_message(direct_site: Site) -> None:
    heard = []

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    async with (
        ScriptedLLM(sample) as llm,
        direct_site.generator(),
        subscribed(direct_site.log.connection, "$KV.millstream_limits.>", hear),
    ):
        batch_id = await direct_site.begin([sites.route(llm.base_url, provider="simulated")], 100)
        state = await direct_site.ended(batch_id)
        told = await direct_site.events(batch_id, SliceEvent)
    assert state.counts.generated == 100
    assert {event.after.in_flight for event in told} == {None}  # no more events either
    assert not any(isinstance(event, CallsAnnounced) for event in told)
    assert [subject for subject in heard if ".clock." not in subject] == []
    assert len(heard) <= 6  # the node's clock, once a minute


async def test_a_node_that_cannot_reach_the_bucket_keeps_to_its_part_of_the_limit(
    direct_site: Site,
) -> None:
    """The bucket is gone, the log is not: its stream is deleted while a batch runs."""
    async with ScriptedLLM(sample) as llm, direct_site.generator():
        way = sites.route(llm.base_url, provider="simulated", rpm=1200)
        batch_id = await direct_site.begin([way], 40, concurrency=10)
        await direct_site.reach(batch_id, lambda state: state.counts.generated >= 3)
        await direct_site.log.event_log.answers.ask(
            "$JS.API.STREAM.DELETE.KV_millstream_limits", b""
        )
        state = await direct_site.ended(batch_id)
    assert state.counts.generated == 40
    starts = [request.started_at for request in llm.requests]
    within = (sum(0 <= other - start <= 1.0 for other in starts) for start in starts)
    assert max(within) <= 20 + 10


async def test_a_node_that_leaves_gives_its_permits_back_at_once(direct_site: Site) -> None:
    """They would run out after ten seconds, in which nobody could use them."""
    shared = SharedLimits(direct_site.log.event_log.answers, "test")
    async with ScriptedLLM(lambda request: Delayed(sample(request), 0.3)) as llm:
        way = sites.route(llm.base_url, provider="simulated", max_concurrency=4)
        key = route_key(way, llm.base_url, socket.gethostname())
        async with direct_site.generator():
            batch_id = await direct_site.begin([way], 200, concurrency=10)
            await direct_site.reach(batch_id, lambda state: state.counts.generated >= 3)
            assert list((await shared.read(key)).permits) == ["g1"]
        assert (await shared.read(key)).permits == {}
        async with direct_site.generator("g2"):
            made = (await direct_site.state(batch_id)).counts.generated
            await direct_site.reach(batch_id, lambda state: state.counts.generated > made)
            assert list((await shared.read(key)).permits) == ["g2"]


async def test_a_node_whose_key_is_refused_keeps_one_permit_and_leaves_the_others_the_rest(
    direct_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one is for its probe; its calls in line can't use more."""
    monkeypatch.setattr(gate, "BUSY_S", 0.05)
    way = sites.route("http://127.0.0.1:9", max_concurrency=4)
    shared = [SharedLimits(direct_site.log.event_log.answers, node) for node in ("g1", "g2")]
    first, second = (
        gate.Gate(Condition("way", way, one, node=node, first_probe_s=600), random.Random(1))
        for one, node in zip(shared, ("g1", "g2"), strict=True)
    )
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
        runs = [tasks.create_task(one.run()) for one in (first, second)]
        turns = [await one.granted for one in [first.queue(0, "b") for _ in range(9)][:4]]
        for turn in turns:
            first.condition.note_failure(turn, CallFailedError("auth", "no such key"))
        for waiter in [second.queue(0, "b") for _ in range(9)][:3]:
            await waiter.granted
        stored = (await shared[1].read("way")).permits
        for run in runs:
            run.cancel()
    assert {name: one.held for name, one in stored.items()} == {"g1": 1, "g2": 3}
    assert first.line


@pytest.mark.parametrize("status", [400, 500])
async def test_a_call_that_fails_gives_its_reserved_tokens_back(
    direct_site: Site, status: int
) -> None:
    shared = SharedLimits(direct_site.log.event_log.answers, "test")
    async with ScriptedLLM(lambda _: HttpError(status)) as llm, direct_site.generator():
        way = sites.route(llm.base_url, provider="simulated", tpm=600_000)
        key = route_key(way, llm.base_url, socket.gethostname())
        await direct_site.begin([way], 1)
        async with asyncio.timeout(BOUND_S):
            while (state := await shared.read(key)).requested_at == 0 or state.reserved_s > 0:
                await asyncio.sleep(0.05)
    assert state.reserved_s == 0


async def test_a_node_tells_what_a_route_waits_for_and_how_many_calls_wait(
    direct_site: Site,
) -> None:
    nodes = Nodes(direct_site.log.event_log.answers)
    busy = HttpError(429, headers={"Retry-After": "60"})
    async with ScriptedLLM(lambda _: busy) as llm, direct_site.generator("g1"):
        way = sites.route(llm.base_url, provider="simulated", max_concurrency=2)
        await direct_site.begin([way], 6, concurrency=6)

        async with asyncio.timeout(BOUND_S):
            while not (
                found := [one for beat in await nodes.live() for one in beat.routes if one.cause]
            ):
                await asyncio.sleep(0.05)
    told = found[0]
    assert (told.state, told.cause) == ("throttled", "provider asked to wait 60 s")
    assert told.until is not None
    assert told.share < 1
    assert (told.model, told.max_concurrency, told.in_flight) == (way.model, 2, 0)
    assert told.waiting > 0


async def test_a_permit_that_is_not_used_goes_to_the_node_that_asks_for_it_next(
    direct_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node keeps it for its own next call, without a message, until another one waits."""
    monkeypatch.setattr(gate, "RENEW_S", 600.0)
    monkeypatch.setattr(permits, "PERMIT_S", 600.0)
    shared = SharedLimits(direct_site.log.event_log.answers, "test")
    async with ScriptedLLM(sample) as llm:
        way = sites.route(llm.base_url, provider="simulated", max_concurrency=1)
        key = route_key(way, llm.base_url, socket.gethostname())
        async with (
            direct_site.generator("g1", pool="one"),
            direct_site.generator("g2", pool="two"),
        ):
            await direct_site.ended(await direct_site.begin([way], 1, pool="one"))
            kept = (await shared.read(key)).permits
            state = await direct_site.ended(await direct_site.begin([way], 1, pool="two"))
    assert list(kept) == ["g1"]
    assert state.counts.generated == 1


async def test_a_permit_serves_one_call_after_the_other_without_a_message(
    direct_site: Site,
) -> None:
    told: list[Msg] = []
    at_once: list[int] = []

    async def hear(message: Msg) -> None:
        told.append(message)

    def answer(request: Request) -> Answer:
        at_once.append(llm.open_requests)
        return sample(request)

    async with (
        ScriptedLLM(answer) as llm,
        direct_site.generator("g1"),
        direct_site.generator("g2"),
        subscribed(direct_site.log.connection, WATCH, hear),
    ):
        way = sites.route(llm.base_url, provider="simulated", max_concurrency=4)
        batch_id = await direct_site.begin([way], 200, slice_size=10, concurrency=20)
        state = await direct_site.ended(batch_id)
    assert state.counts.generated == 200
    assert max(at_once) <= 4
    assert len(told) < 100


async def test_nodes_that_share_one_permit_all_get_their_turns(
    direct_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a batch of its own that is longer than a turn: none waits for another one's end."""
    monkeypatch.setattr(permits, "TURN_S", 0.1)
    at_once: list[int] = []

    def answer(request: Request) -> Answer:
        at_once.append(llm.open_requests)
        return Delayed(sample(request), 0.02)

    async with ScriptedLLM(answer) as llm:
        way = sites.route(llm.base_url, provider="simulated", max_concurrency=1)
        async with AsyncExitStack() as nodes:
            for name in ("one", "two", "three"):
                await nodes.enter_async_context(direct_site.generator(name, pool=name))
            ids = [
                await direct_site.begin([way], 1000, concurrency=8, pool=name)
                for name in ("one", "two", "three")
            ]
            for batch_id in ids:
                await direct_site.reach(batch_id, lambda state: state.counts.generated >= 10)
            states = [await direct_site.state(batch_id) for batch_id in ids]
    assert all(state.counts.generated < 1000 for state in states)
    assert set(at_once) == {1}


async def test_a_429_on_a_free_route_gives_its_calls_due_times_on_the_node_that_got_it_at_once(
    direct_site: Site,
) -> None:
    """It is noted here at once, and a moment later in what all nodes share."""
    shared = SharedLimits(direct_site.log.event_log.answers, "test")
    way = sites.route("http://127.0.0.1:1", provider="simulated")
    condition = Condition("route.test", way, shared, node="g1", first_probe_s=1.5)
    limited = gate.Gate(condition, random.Random(1))
    await condition.read()
    turns = [turn for turn in (limited.try_turn() for _ in range(16)) if turn]
    failure = CallFailedError("rate_limit", "busy", status_code=429)
    condition.note_failure(turns[0], failure, limited.in_flight)
    assert limited.try_turn() is None
    noted = condition.state.pace
    await condition.store()
    stored = (
        await SharedLimits(direct_site.log.event_log.answers, "other").read("route.test")
    ).pace
    assert noted is not None
    assert stored is not None
    assert (stored.rate, stored.whole) == (noted.rate, noted.whole) == (8.0, 16.0)
