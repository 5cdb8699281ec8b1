"""Pause, resume and the two ways to stop, while calls are in flight."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from millstream.domain.batch_state import BatchState
from millstream.eventlog.stop import signal_stop
from millstream.testing.scripted_llm import Answer, Delayed, HttpError, Request, ScriptedLLM, Stall
from millstream.testing.site import Site, route, sample
from millstream_generator import service
from millstream_schemas import slices
from millstream_schemas.commands import PauseBatch, ResumeBatch, StopBatch
from millstream_schemas.control import CellQuota
from millstream_schemas.routes import Price

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),  # litellm's own
]


class Gate:
    """Holds answers back until it is opened."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def __call__(self, request: Request) -> Answer:
        return Delayed(sample(request), until=self.event)


async def settle(site: Site) -> None:
    """Return once the generator has worked on other things after all that was said to it."""
    async with ScriptedLLM(sample) as other:
        assert (await site.ended(await site.begin(other.base_url, 10))).state == "completed"


def whole(state: BatchState) -> bool:
    return state.counts.generated == state.spec.target and state.state == "completed"


async def test_a_paused_batch_starts_no_call_finishes_those_in_flight_and_resumes(
    site: Site,
) -> None:
    gate = Gate()
    async with ScriptedLLM(gate) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 40)
        await llm.wait_for(lambda _: llm.open_requests == 8)
        await site.command(batch_id, PauseBatch())
        await settle(site)
        gate.event.set()
        await site.reach(batch_id, lambda state: state.counts.generated == 8)
        await settle(site)
        assert (len(llm.requests), llm.open_requests) == (8, 0)
        assert (await site.state(batch_id)).state == "paused"
        await site.command(batch_id, ResumeBatch())
        assert whole(await site.ended(batch_id))
        assert await site.outcomes(batch_id) == dict.fromkeys(range(40), 1)
    assert len(llm.requests) == 40


async def test_a_batch_paused_and_resumed_in_one_breath_goes_on(site: Site) -> None:
    """Its slices are given up and queued again though nothing else happens in the log."""
    gate = Gate()
    async with ScriptedLLM(gate) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 40)
        await llm.wait_for(lambda _: llm.open_requests == 8)
        for _ in range(3):
            await site.command(batch_id, PauseBatch())
            await site.command(batch_id, ResumeBatch())
        gate.event.set()
        assert whole(await site.ended(batch_id))


async def test_a_batch_paused_before_any_slice_was_claimed_makes_no_call(site: Site) -> None:
    async with ScriptedLLM(sample) as llm:
        batch_id = await site.begin(llm.base_url, 10)
        await site.command(batch_id, PauseBatch())
        async with site.generator():
            await settle(site)
            assert llm.requests == []
            await site.command(batch_id, ResumeBatch())
            assert whole(await site.ended(batch_id))


async def test_a_stop_cancels_the_calls_in_flight_and_none_starts_after_it(site: Site) -> None:
    async with ScriptedLLM([Stall(after_chunks=2)]) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 1000, slice_size=8, concurrency=24)
        await llm.wait_for(lambda _: llm.open_requests == 24)
        await site.command(batch_id, StopBatch())
        state = await site.ended(batch_id)
        await llm.wait_for(lambda _: llm.open_requests == 0)
        made = len(llm.requests)
        await settle(site)
        assert len(llm.requests) == made
        assert {request.outcome for request in llm.requests} == {"cancelled"}
    assert (state.state, state.counts.generated, state.anomalies) == ("stopped", 0, 0)


@pytest.mark.parametrize("stop", [StopBatch(), StopBatch(mode="drain", grace_s=1)])
async def test_calls_that_a_stop_cancels_are_paid_by_an_estimate(
    direct_site: Site, stop: StopBatch
) -> None:
    """Four letters a token: of the prompt that was sent, and of what had come of the answer."""
    price = Price(input_nano_usd_per_1k=1_000_000, output_nano_usd_per_1k=2_000_000)
    half = Stall(after_chunks=1, content="word " * 32)
    async with ScriptedLLM([half]) as llm, direct_site.generator():
        batch_id = await direct_site.begin([route(llm.base_url, price=price)], 100)
        await llm.wait_for(lambda _: llm.open_requests == 8)
        await direct_site.command(batch_id, stop)
        state = await direct_site.ended(batch_id)
        told = await direct_site.events(batch_id, slices.SampleAbandoned)
    texts = [[one["content"] for one in request.body["messages"]] for request in llm.requests]
    prompts = sum(sum(map(len, text)) // 4 for text in texts)
    counts = state.counts
    assert (len(told), counts.unconfirmed_calls) == (8, 0)
    assert counts.tokens_in == sum(event.usage.tokens_in for event in told) == prompts > 0
    assert counts.tokens_out == sum(event.usage.tokens_out for event in told)
    assert counts.cost_nano_usd == 1_000 * counts.tokens_in + 2_000 * counts.tokens_out
    assert counts.wasted_nano_usd == counts.cost_nano_usd


async def test_a_stop_counts_no_call_of_a_slot_that_waits(site: Site) -> None:
    """Eight slots hold slices, but all wait for the provider that throttles them."""
    begun = asyncio.Event()
    throttled = HttpError(429, headers={"Retry-After": "60"})
    async with ScriptedLLM(lambda _: Delayed(throttled, until=begun)) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 1000, slice_size=8, concurrency=8)
        await llm.wait_for(lambda _: llm.open_requests == 8)
        begun.set()  # The first refusal holds back who has not called yet.
        await site.reach(batch_id, lambda state: state.counts.attempts_failed == 8)
        await site.command(batch_id, StopBatch())
        state = await site.ended(batch_id)
    assert (state.counts.unconfirmed_calls, state.counts.abandoned) == (0, 64)


async def test_calls_in_flight_as_a_batch_fails_are_told_of(site: Site) -> None:
    """The key is refused to one call of each slice, while three others are in flight."""

    def answer(request: Request) -> Answer:
        return Stall() if request.index % 4 else Delayed(HttpError(401), until=begun)

    begun = asyncio.Event()
    async with ScriptedLLM(answer) as llm, site.generator():
        batch_id = await site.begin(
            [route(llm.base_url, stall_s=60)], 64, slice_size=8, concurrency=64
        )
        await llm.wait_for(lambda _: llm.open_requests == 32)
        begun.set()
        state = await site.ended(batch_id)
        told = await site.events(batch_id, slices.SampleAbandoned)
    counts = state.counts
    assert (state.state, counts.generated) == ("failed", 0)
    assert counts.attempts_failed + counts.unconfirmed_calls + len(told) == len(llm.requests) == 32


async def test_a_stop_during_a_long_back_off_does_not_wait_for_it(site: Site) -> None:
    def answer(request: Request) -> Answer:
        return sample(request) if request.index else Stall()

    async with ScriptedLLM(answer) as llm, site.generator():
        batch_id = await site.begin([route(llm.base_url, stall_s=0.2)], 1, slice_size=1)
        await site.reach(batch_id, lambda state: state.counts.attempts_failed == 1)
        await site.command(batch_id, StopBatch())
        assert (await site.ended(batch_id)).state == "stopped"


async def test_a_draining_stop_lets_the_calls_in_flight_finish(site: Site) -> None:
    gate = Gate()
    async with ScriptedLLM(gate) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 40)
        await llm.wait_for(lambda _: llm.open_requests == 8)
        await site.command(batch_id, StopBatch(mode="drain", grace_s=120))
        await settle(site)
        assert (await site.state(batch_id)).state == "stopping"
        assert llm.open_requests == 8
        gate.event.set()
        state = await site.ended(batch_id)
    assert (state.state, state.counts.generated, state.anomalies) == ("stopped", 8, 0)
    assert {request.outcome for request in llm.requests} == {"finished"}
    assert len(llm.requests) == 8
    assert state.stop is not None
    bound_at = state.stop.event.bound_at
    assert bound_at is not None
    assert bound_at - state.stop.event.time == timedelta(seconds=120)


async def test_a_drain_ends_at_its_bound(site: Site) -> None:
    async with ScriptedLLM([Stall()]) as llm, site.generator():
        batch_id = await site.begin([route(llm.base_url, stall_s=60, timeout_s=60)], 20)
        await llm.wait_for(lambda _: llm.open_requests == 8)
        await site.command(batch_id, StopBatch(mode="drain", grace_s=1))
        state = await site.ended(batch_id)
        await llm.wait_for(lambda _: llm.open_requests == 0)
    assert (state.state, state.counts.generated) == ("stopped", 0)


async def test_a_drain_that_is_cancelled_ends_at_once(site: Site) -> None:
    async with ScriptedLLM([Stall()]) as llm, site.generator():
        batch_id = await site.begin([route(llm.base_url, stall_s=60, timeout_s=60)], 20)
        await llm.wait_for(lambda _: llm.open_requests == 8)
        await site.command(batch_id, StopBatch(mode="drain", grace_s=600))
        await settle(site)
        assert llm.open_requests == 8
        await site.command(batch_id, StopBatch(reason="now"))
        state = await site.ended(batch_id)
        await llm.wait_for(lambda _: llm.open_requests == 0)
    assert (state.state, state.counts.generated, state.anomalies) == ("stopped", 0, 0)
    assert state.stop is not None
    assert state.stop.event.reason == "now"


async def test_a_batch_refills_exactly_the_cells_that_it_was_given(site: Site) -> None:
    quotas = (CellQuota(cell=1, count=3), CellQuota(cell=6, count=2))
    async with ScriptedLLM(sample) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 5, quotas=quotas)
        assert whole(await site.ended(batch_id))
        made = await site.events(batch_id, slices.SampleGenerated)
    cells = Counter((event.cell.sample_type, event.cell.topic) for event in made)
    assert cells == {("case_analysis", "Torts"): 3, ("educational", "Contracts"): 2}


async def test_draining_a_paused_batch_waits_for_nothing(site: Site) -> None:
    gate = Gate()
    async with ScriptedLLM(gate) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 40)
        await llm.wait_for(lambda _: llm.open_requests == 8)
        await site.command(batch_id, PauseBatch())
        gate.event.set()
        await site.reach(batch_id, lambda state: state.counts.generated == 8)
        await settle(site)
        await site.command(batch_id, StopBatch(mode="drain", grace_s=600))
        state = await site.ended(batch_id)
    assert (state.state, state.counts.generated) == ("stopped", 8)


async def test_a_signal_without_a_stop_costs_the_calls_but_no_attempt(site: Site) -> None:
    gate = Gate()
    async with ScriptedLLM(gate) as llm, site.generator():
        batch_id = await site.begin(llm.base_url, 20)
        await llm.wait_for(lambda _: llm.open_requests == 8)
        await signal_stop(site.log.event_log, batch_id)
        await llm.wait_for(lambda found: sum(r.outcome == "cancelled" for r in found) == 8)
        await llm.wait_for(lambda _: llm.open_requests == 8)
        gate.event.set()
        state = await site.ended(batch_id)
        assert whole(state)
        made = await site.events(batch_id, slices.SampleGenerated)
        assert await site.events(batch_id, slices.SampleAbandoned) == []
    assert {event.attempt for event in made} == {1}
    assert state.counts.attempts_failed == 0


async def test_a_node_that_leaves_finishes_its_calls_and_gives_the_rest_back(site: Site) -> None:
    gate = Gate()
    async with ScriptedLLM(gate) as llm:
        batch_id = await site.begin(llm.base_url, 40, slice_size=4)
        async with site.generator("g1", lease_s=600.0) as stop:
            await llm.wait_for(lambda _: llm.open_requests == 8)
            stop.set()
            gate.event.set()
        state = await site.state(batch_id)
        assert (state.counts.generated, len(llm.requests)) == (8, 8)
        async with site.generator("g2", lease_s=600.0):
            assert whole(await site.ended(batch_id))
    assert len(llm.requests) == 40


async def test_a_node_that_leaves_cancels_the_calls_that_do_not_finish_in_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "FINISH_S", 0.2)
    gate = Gate()
    async with ScriptedLLM(gate) as llm:
        batch_id = await site.begin(llm.base_url, 20)
        async with site.generator("g1", lease_s=600.0):
            await llm.wait_for(lambda _: llm.open_requests == 8)
        await llm.wait_for(lambda _: llm.open_requests == 0)
        assert {request.outcome for request in llm.requests} == {"cancelled"}
        gate.event.set()
        async with site.generator("g2", lease_s=600.0):
            state = await site.ended(batch_id)
    assert whole(state)
    assert state.counts.attempts_failed == 0


async def test_a_stop_signal_while_the_node_leaves_does_not_hold_it_up(site: Site) -> None:
    async with ScriptedLLM([Stall()]) as llm:
        batch_id = await site.begin(llm.base_url, 20)
        async with site.generator() as stop:
            await llm.wait_for(lambda _: llm.open_requests == 8)
            stop.set()
            await signal_stop(site.log.event_log, batch_id)
            await llm.wait_for(lambda _: llm.open_requests == 0)
        assert (await site.state(batch_id)).counts.pending == 20
