"""Many generators and many batches: shares, pools, leaving in order, and a queue that vanishes."""

import asyncio
import contextlib
import json
from collections import Counter
from typing import Any

import pytest

from millstream.domain.batch_state import BatchState
from millstream.domain.slice import POISON_CLAIMS
from millstream.eventlog.work import WorkQueue, WorkSize
from millstream.testing.scripted_llm import Answer, Delayed, Request, ScriptedLLM
from millstream.testing.site import Site, route, sample
from millstream.testing.waiting import BOUND_S
from millstream_generator import slice_work
from millstream_schemas import slices, subjects
from millstream_schemas.commands import PauseBatch, ResumeBatch, SetPriority
from millstream_schemas.routes import Route

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),  # litellm's own
]


FIRST = 150
"""So many slices stand in the order in which their batches were begun, and one round of three
batches of a class has as many."""


class Gate:
    """Holds answers back until it is opened."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def __call__(self, request: Request) -> Answer:
        return Delayed(sample(request), until=self.event)


def named(base_url: str, name: str) -> list[Route]:
    """Return a route whose calls tell the batch they are for."""
    return [route(base_url, model=f"test/{name}", litellm_model=f"openai/{name}")]


def asked(requests: list[Request]) -> list[str]:
    """Return the batch of each call, in the order of the calls."""
    return [request.body["model"] for request in requests]


def work(site: Site) -> WorkQueue:
    return WorkQueue(site.log.event_log.answers)


async def lines(site: Site, batch_id: str) -> Counter[str]:
    """Return how many slices of the batch wait in each line."""
    found: Counter[str] = Counter()
    for priority in subjects.PRIORITIES:
        subject = subjects.work("*", priority, batch_id, 0).removesuffix("0") + "*"
        request = f'{{"subjects_filter": "{subject}"}}'.encode()
        answers = site.log.event_log.answers
        answer = await answers.ask(f"$JS.API.STREAM.INFO.{subjects.WORK}", request)
        found[priority] += len(json.loads(answer.data)["state"].get("subjects") or {})
    return +found


async def queued(site: Site, batch_id: str, count: int) -> None:
    async with asyncio.timeout(BOUND_S):
        while len(await work(site).queued(batch_id)) != count:
            await asyncio.sleep(0.02)


async def test_lines_that_are_full_are_served_eight_to_four_to_one(site: Site) -> None:
    async with ScriptedLLM(sample) as llm, site.generator("queues", pool="other"):
        for priority in subjects.PRIORITIES:
            batch_id = await site.begin(
                named(llm.base_url, priority), 60, slice_size=1, concurrency=16, priority=priority
            )
            await queued(site, batch_id, 16)
        async with site.generator("works", node_concurrency=1):
            await llm.wait_for(lambda found: len(found) >= 26)
        calls = Counter(asked(llm.requests[:26]))
    # A line may be empty for a moment: the others are served then.
    assert (calls["high"] >= 13, calls["normal"] >= 6, 1 <= calls["low"] <= 4) == (True,) * 3


@pytest.mark.parametrize(
    ("priorities", "shares"),
    [(("high", "normal", "low"), (320, 160, 40)), (("normal",) * 3, (100, 100, 100))],
    ids=["by their weights", "equally"],
)
async def test_three_nodes_share_their_calls_among_batches(
    direct_site: Site, priorities: tuple[subjects.Priority, ...], shares: tuple[int, ...]
) -> None:
    async with ScriptedLLM(sample) as llm, direct_site.generator("queues", pool="other"):
        for number, priority in enumerate(priorities):
            ways = named(llm.base_url, f"b{number}")
            fields: dict[str, Any] = {"slice_size": 1, "concurrency": 50, "priority": priority}
            await queued(direct_site, await direct_site.begin(ways, 1000, **fields), 50)
        async with (
            direct_site.generator("first", node_concurrency=4),
            direct_site.generator("second", node_concurrency=4),
            direct_site.generator("third", node_concurrency=4),
        ):
            await llm.wait_for(lambda found: len(found) >= FIRST + sum(shares), 60)
        calls = Counter(asked(llm.requests[FIRST : FIRST + sum(shares)]))
    for number, share in enumerate(shares):
        assert calls[f"b{number}"] == pytest.approx(share, rel=0.1)


async def test_an_empty_line_costs_the_others_nothing(site: Site) -> None:
    async with ScriptedLLM(sample) as llm, site.generator(node_concurrency=2):
        batch_id = await site.begin(llm.base_url, 60, slice_size=1, priority="low")
        assert (await site.ended(batch_id)).counts.generated == 60


async def test_a_changed_priority_holds_for_slices_queued_from_then_on(site: Site) -> None:
    async with ScriptedLLM(sample) as llm, site.generator("queues", pool="other"):
        batch_id = await site.begin(llm.base_url, 40, slice_size=1, concurrency=8)
        await queued(site, batch_id, 8)
        assert await lines(site, batch_id) == {"normal": 8}
        await site.command(batch_id, SetPriority(priority="high"))
        async with site.generator("works", node_concurrency=1):
            await site.reach(batch_id, lambda state: state.counts.generated >= 8)
            async with asyncio.timeout(BOUND_S):
                while set(await lines(site, batch_id)) != {"high"}:
                    await asyncio.sleep(0.02)
            assert (await site.ended(batch_id)).counts.generated == 40
        assert await site.outcomes(batch_id) == dict.fromkeys(range(40), 1)
    assert len(llm.requests) == 40


async def test_a_batch_of_a_hundred_thousand_does_not_hold_one_of_ten_up(site: Site) -> None:
    """Its slices have 64 slots each: without a share of its own the small one would wait for one.

    Sixteen of them fill the node; until the first ends there are a thousand calls.
    """

    def answer(request: Request) -> Answer:
        return Delayed(sample(request), delay_s=0.05)

    async with ScriptedLLM(answer) as llm, site.generator(node_concurrency=16):
        await site.begin(named(llm.base_url, "large"), 100_000, slice_size=64, concurrency=16)
        await llm.wait_for(lambda _: llm.open_requests == 16)
        before = len(llm.requests)
        small = await site.begin(named(llm.base_url, "small"), 10, slice_size=1, concurrency=10)
        assert (await site.ended(small)).counts.generated == 10
        calls = Counter(asked(llm.requests[before:]))
    assert calls["small"] == 10
    assert calls["large"] < 500


async def test_a_full_node_lets_later_batches_in_by_the_weights_of_their_classes(
    site: Site,
) -> None:
    """No call ends: an equal share would be 8 for each of the three."""
    gate = Gate()
    async with ScriptedLLM(gate) as llm, site.generator(node_concurrency=26):
        ways = [route(llm.base_url, timeout_s=600.0)]
        await site.begin(ways, 60, slice_size=1, concurrency=60, priority="low")
        await llm.wait_for(lambda _: llm.open_requests == 26)
        for priority, share in (("normal", 8), ("high", 16)):
            later = await site.begin(ways, 60, slice_size=1, concurrency=60, priority=priority)
            await site.reach(later, lambda state, least=share: len(state.slices) >= least)


async def test_a_batch_of_another_pool_is_left_to_that_pool(site: Site) -> None:
    async with ScriptedLLM(sample) as llm, site.generator("default"):
        elsewhere = await site.begin(named(llm.base_url, "elsewhere"), 10, pool="gpu")
        await queued(site, elsewhere, 5)
        here = await site.begin(named(llm.base_url, "here"), 10)
        assert (await site.ended(here)).counts.generated == 10
        assert set(asked(llm.requests)) == {"here"}
        async with site.generator("gpu", pool="gpu"):
            assert (await site.ended(elsewhere)).counts.generated == 10
        claims = await site.events(elsewhere, slices.SliceClaimed)
    assert {claim.after.node for claim in claims} == {"gpu"}


async def test_a_node_takes_no_more_slices_than_it_has_calls_for(site: Site) -> None:
    """Sixteen slices of two calls each: what one node leaves is there for the other."""
    gate = Gate()
    async with ScriptedLLM(gate) as llm, site.generator("first", node_concurrency=16):
        batch_id = await site.begin(llm.base_url, 320, slice_size=10, concurrency=32)
        await llm.wait_for(lambda _: llm.open_requests == 16)
        async with site.generator("second", node_concurrency=16):
            await llm.wait_for(lambda _: llm.open_requests == 32)
            gate.event.set()
            assert (await site.ended(batch_id)).counts.generated == 320
    assert len(llm.requests) == 320


async def test_a_paused_batch_is_given_up_in_order(site: Site) -> None:
    gate = Gate()
    async with ScriptedLLM(gate) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 40, slice_size=4)
        await llm.wait_for(lambda _: llm.open_requests == 8)
        await site.command(batch_id, PauseBatch())
        gate.event.set()
        state = await site.reach(
            batch_id, lambda state: all(not tail.state.node for tail in state.slices.values())
        )
        assert {tail.state.barren_claims for tail in state.slices.values()} == {0}
        await site.command(batch_id, ResumeBatch())
        state = await site.ended(batch_id)
        assert (state.counts.generated, state.counts.unconfirmed_calls) == (40, 0)
        claims = await site.events(batch_id, slices.SliceClaimed)
    assert {claim.rescue_of for claim in claims} == {None}
    assert len(llm.requests) == 40


@pytest.mark.parametrize("nodes", [1, 2])
async def test_the_work_stream_deleted_in_mid_batch_costs_no_call(site: Site, nodes: int) -> None:
    """Who holds a slice finishes it; only what nobody holds is queued again."""
    gate = Gate()

    def answer(request: Request) -> Answer:
        return Delayed(gate(request), delay_s=0.02)

    async with ScriptedLLM(answer) as llm, asyncio.TaskGroup() as tasks:
        stops = [await _serving(tasks, site, f"g{number}") for number in range(nodes)]
        batch_id = await site.begin(llm.base_url, 200, slice_size=8)
        await llm.wait_for(lambda _: llm.open_requests == 8)
        await site.log.event_log.answers.ask(f"$JS.API.STREAM.DELETE.{subjects.WORK}", b"")
        async with asyncio.timeout(BOUND_S):
            while (await site.log.event_log.answers.ask(_INFO, b"")).data.find(b'"error"') >= 0:
                await asyncio.sleep(0.02)
        gate.event.set()
        state = await site.ended(batch_id)
        for stop in stops:
            stop.set()
    assert (state.counts.generated, state.counts.unconfirmed_calls) == (200, 0)
    assert len(llm.requests) == 200


_INFO = f"$JS.API.STREAM.INFO.{subjects.WORK}"


async def _serving(tasks: asyncio.TaskGroup, site: Site, node: str) -> asyncio.Event:
    """Run a generator until the event that is returned is set."""
    stop, ready = asyncio.Event(), asyncio.Event()

    async def serve() -> None:
        async with site.generator(node, lease_s=10.0):
            ready.set()
            await stop.wait()

    tasks.create_task(serve())
    await ready.wait()
    return stop


async def test_a_slice_that_is_taken_from_nodes_that_live_blames_none_of_its_slots(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease is lost again and again, and none of its holders says that it works on it.

    Nodes whose calls are in flight learn of it only from their answers, and claim nothing.
    """
    gate = Gate()
    monkeypatch.setattr(slice_work, "HERE_S", 0.02)
    monkeypatch.setattr(slice_work, "heard", lambda *_: contextlib.nullcontext())
    async with contextlib.AsyncExitStack() as stack:
        llm = await stack.enter_async_context(ScriptedLLM(gate))
        for number in range(POISON_CLAIMS + 2):
            await stack.enter_async_context(site.generator(f"g{number}"))
        ways = [route(llm.base_url, timeout_s=600.0, stall_s=600.0)]
        batch_id = await site.begin(ways, 8, slice_size=8, concurrency=128)
        for epoch in range(1, POISON_CLAIMS + 2):
            await site.reach(batch_id, lambda state, least=epoch: _epoch(state) >= least)
            await site.log.event_log.answers.ask(f"$JS.API.STREAM.PURGE.{subjects.WORK}", b"")
            await work(site).enqueue("default", "normal", batch_id, [0], WorkSize(8, 8))
        gate.event.set()
        state = await site.ended(batch_id)
        claims = await site.events(batch_id, slices.SliceClaimed)
        trials = await site.events(batch_id, slices.SlotOnTrial)
    assert (state.counts.generated, state.counts.failed, trials) == (8, 0, [])
    assert [claim.holder_lives for claim in claims[1:]] == [True] * (len(claims) - 1)
    assert {claim.after.barren_claims for claim in claims} == {1}
    assert len(claims) > POISON_CLAIMS


def _epoch(state: BatchState) -> int:
    return state.slices[0].state.epoch if 0 in state.slices else 0


async def test_a_deleted_work_stream_gives_every_pool_its_slices_back(site: Site) -> None:
    """The dispatcher is of one pool, the slices and their generator are of another."""
    async with ScriptedLLM(sample) as llm, site.generator("leads"):
        await site.ended(await site.begin(llm.base_url, 2))
        async with site.generator("gpu", pool="gpu"):
            await site.log.event_log.answers.ask(f"$JS.API.STREAM.DELETE.{subjects.WORK}", b"")
            batch_id = await site.begin(llm.base_url, 20, pool="gpu")
            assert (await site.ended(batch_id)).counts.generated == 20
    assert len(llm.requests) == 22
