"""Routes that are limited, throttled, down or refuse the key: who waits, who goes elsewhere."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from millstream.eventlog.server import free_port
from millstream.testing import site as sites
from millstream.testing.scripted_llm import (
    Answer,
    Delayed,
    Disconnect,
    HttpError,
    Request,
    ScriptedLLM,
    Stall,
)
from millstream.testing.site import Site, sample
from millstream_generator import policy
from millstream_schemas import notes, slices
from millstream_schemas.commands import StopBatch
from millstream_schemas.routes import Route

pytestmark = pytest.mark.anyio


@pytest.fixture
def short_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "BACKOFF_MOST_S", 0.1)
    monkeypatch.setattr(policy, "BACKOFF_LEAST_S", 0.1)


@pytest.fixture
def site(direct_site: Site) -> Site:
    return direct_site


def route(base_url: str, **fields: Any) -> Route:
    """Return a route that is called directly without asking litellm."""
    return sites.route(base_url, **{"provider": "simulated", **fields})


def most_within(times: Sequence[float], window_s: float) -> int:
    """Return the largest number of times in any window."""
    ordered = sorted(times)
    return max(
        sum(start <= other <= start + window_s for other in ordered[index:])
        for index, start in enumerate(ordered)
    )


def most_at_once(requests: Sequence[Request]) -> int:
    """Return how many requests were under way together at most."""
    moments = [(request.started_at, 1) for request in requests]
    moments += [(request.finished_at or request.cancelled_at or 0.0, -1) for request in requests]
    return max(itertools.accumulate(change for _, change in sorted(moments)))


async def test_two_nodes_together_keep_a_limit_of_requests_per_minute(site: Site) -> None:
    async with ScriptedLLM(sample) as llm, site.generator("g1"), site.generator("g2"):
        way = route(llm.base_url, rpm=600)
        batch_id = await site.begin([way], 40, concurrency=20)
        state = await site.ended(batch_id)
        made = await site.events(batch_id, slices.SampleGenerated)
        claims = await site.events(batch_id, slices.SliceClaimed)
    assert state.counts.generated == 40
    assert {claim.after.node for claim in claims} == {"g1", "g2"}
    starts = [request.started_at for request in llm.requests]
    assert len(starts) == 40
    assert most_within(starts, 1.0) <= 10 + 5  # each may come up to half a second late
    assert max(starts) - min(starts) >= 3.4
    assert any(event.wait_s is not None and event.wait_s > 0.1 for event in made)


async def test_two_nodes_together_keep_a_limit_of_calls_in_flight(site: Site) -> None:
    def slowly(request: Request) -> Answer:
        return Delayed(sample(request), 0.05)

    async with ScriptedLLM(slowly) as llm, site.generator("g1"), site.generator("g2"):
        batch_id = await site.begin([route(llm.base_url, max_concurrency=3)], 40, concurrency=20)
        state = await site.ended(batch_id)
    assert state.counts.generated == 40
    assert most_at_once(llm.requests) <= 3


async def test_a_limit_of_tokens_per_minute_spaces_the_calls(site: Site) -> None:
    """Each call reserves its prompt and its longest answer, and gives back what it leaves."""
    async with ScriptedLLM(sample) as llm, site.generator():
        batch_id = await site.begin([route(llm.base_url, tpm=60_000)], 6)
        state = await site.ended(batch_id)
        used = state.totals.tokens_in + state.totals.tokens_out
    assert state.counts.generated == 6
    starts = sorted(request.started_at for request in llm.requests)
    assert starts[-1] - starts[0] >= 0.8 * used / 1000 * 5 / 6


async def test_a_429_holds_every_node_and_is_told_once(site: Site) -> None:
    gone_wrong = asyncio.Event()

    def answer(request: Request) -> Answer:
        if request.index < 10:
            return Delayed(sample(request), 0.02)
        if not gone_wrong.is_set():
            gone_wrong.set()
            return HttpError(429, headers={"Retry-After": "4"})
        return sample(request)

    async with ScriptedLLM(answer) as llm, site.generator("g1"), site.generator("g2"):
        batch_id = await site.begin([route(llm.base_url)], 60, concurrency=8, max_attempts=1)
        state = await site.ended(batch_id)
        told = await site.events(batch_id, notes.RouteThrottled)
    assert [event.model for event in told] == ["test/model"]
    assert "provider asked to wait 4 s" in told[0].message
    assert (state.state, state.counts.generated, state.held_up) == ("completed", 60, None)
    starts = sorted(request.started_at for request in llm.requests)
    assert max(later - earlier for earlier, later in itertools.pairwise(starts)) >= 2.0


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0.3"}, {"Retry-After": "tomorrow"}])
async def test_a_storm_of_429_costs_no_slot_and_no_attempt(
    site: Site, headers: dict[str, str]
) -> None:
    def answer(request: Request) -> Answer:
        return HttpError(429, headers=headers) if request.index < 4 else sample(request)

    async with ScriptedLLM(answer) as llm, site.generator():
        batch_id = await site.begin([route(llm.base_url)], 20, concurrency=6, max_attempts=1)
        state = await site.ended(batch_id)
        failures = await site.events(batch_id, slices.SampleAttemptFailed)
    assert (state.state, state.counts.generated) == ("completed", 20)
    assert {event.category for event in failures} == {"rate_limit"}
    assert len(failures) == 4


async def test_after_a_429_fewer_calls_are_in_flight(site: Site) -> None:
    limited = asyncio.Event()
    after: list[Request] = []

    def answer(request: Request) -> Answer:
        if request.index == 16:
            limited.set()
            return HttpError(429, headers={"Retry-After": "0.5"})
        if limited.is_set() and request.index > 32:
            after.append(request)
        return Delayed(sample(request), 0.1)

    async with ScriptedLLM(answer) as llm, site.generator():
        batch_id = await site.begin([route(llm.base_url)], 80, concurrency=16)
        state = await site.ended(batch_id)
    assert state.counts.generated == 80
    assert most_at_once(llm.requests) >= 14
    assert most_at_once(after) <= 12


async def test_an_endpoint_that_goes_away_in_mid_batch_costs_no_slot(site: Site) -> None:
    """The listener is gone, calls in flight are cut, and it comes back on the same port."""
    port = free_port()

    def slowly(request: Request) -> Answer:
        return Delayed(sample(request), 0.05)

    async with site.generator("g1"), site.generator("g2"):
        async with ScriptedLLM(slowly, port=port) as llm:
            batch_id = await site.begin([route(llm.base_url)], 60, concurrency=8, max_attempts=1)
            await site.reach(batch_id, lambda state: state.counts.generated >= 10)
        held = await site.reach(batch_id, lambda state: state.held_up is not None)
        async with ScriptedLLM(slowly, port=port):
            state = await site.ended(batch_id)
            blocked = await site.events(batch_id, notes.RouteBlocked)
            failures = await site.events(batch_id, slices.SampleAttemptFailed)
            recovered = await site.events(batch_id, notes.RouteRecovered)
    assert held.held_up is not None
    assert held.held_up.kind == "blocked"
    assert (state.state, state.counts.generated, state.counts.failed) == ("completed", 60, 0)
    assert {event.attempt for event in failures} == {1}
    assert "next probe at" in blocked[0].message
    assert len(recovered) == 1
    assert len({event.until for event in blocked}) == len(blocked)


@pytest.mark.usefixtures("short_back_off")
@pytest.mark.parametrize(("concurrency", "max_attempts"), [(1, 1), (1, 3), (2, 3)])
async def test_the_failures_that_open_a_circuit_cost_no_slot_either(
    site: Site, concurrency: int, max_attempts: int
) -> None:
    """All attempts of a slot fall into them when few slots call."""

    def answer(request: Request) -> Answer:
        return HttpError(503) if 4 <= request.index < 12 else sample(request)

    async with ScriptedLLM(answer) as llm, site.generator():
        batch_id = await site.begin(
            [route(llm.base_url)], 12, concurrency=concurrency, max_attempts=max_attempts
        )
        state = await site.ended(batch_id)
    counts = state.counts
    assert (state.state, counts.generated, counts.attempts_failed) == ("completed", 12, 8)


@pytest.mark.parametrize("broken", [HttpError(503), Disconnect(), Disconnect(0)])
async def test_one_call_at_a_time_probes_an_endpoint_that_fails(site: Site, broken: Answer) -> None:
    """Over both nodes; and what fails while the circuit is open costs no attempt."""

    def answer(request: Request) -> Answer:
        if 10 <= request.index < 26:
            return Delayed(broken, 0.05)
        return sample(request)

    async with ScriptedLLM(answer) as llm, site.generator("g1"), site.generator("g2"):
        batch_id = await site.begin([route(llm.base_url)], 60, concurrency=12, max_attempts=3)
        # The fewer calls were in flight as the circuit opened, the more probes fail, ever later.
        state = await site.ended(batch_id)
        blocked = await site.events(batch_id, notes.RouteBlocked)
    assert (state.state, state.counts.generated) == ("completed", 60)
    probes = [request for request in llm.requests if 23 <= request.index < 26]
    assert most_at_once(probes) == 1
    assert len(blocked) >= 2


@pytest.mark.parametrize(
    "first",
    [HttpError(401), HttpError(429, headers={"Retry-After": "30"}), HttpError(503), Stall()],
)
async def test_each_sample_names_the_model_that_answered_when_the_first_route_does_not(
    site: Site, first: Answer
) -> None:
    async with ScriptedLLM([first]) as bad, ScriptedLLM(sample) as good, site.generator():
        ways = [
            route(bad.base_url, model="first/model", stall_s=0.3),
            route(good.base_url, model="second/model"),
        ]
        batch_id = await site.begin(ways, 30, concurrency=4)
        state = await site.ended(batch_id)
        made = await site.events(batch_id, slices.SampleGenerated)
        failures = await site.events(batch_id, slices.SampleAttemptFailed)
    assert (state.state, state.counts.generated) == ("completed", 30)
    assert {event.model for event in made} == {"second/model"}
    assert {event.model for event in failures} == {"first/model"}
    assert len(bad.requests) <= 16  # the rest goes straight to the second


async def test_calls_go_back_to_the_first_route_when_it_answers_again(site: Site) -> None:
    def first(request: Request) -> Answer:
        return HttpError(503) if request.index < 6 else Delayed(sample(request), 0.02)

    def second(request: Request) -> Answer:
        return Delayed(sample(request), 0.1)

    async with ScriptedLLM(first) as one, ScriptedLLM(second) as two, site.generator():
        ways = [
            route(one.base_url, model="first/model"),
            route(two.base_url, model="second/model"),
        ]
        batch_id = await site.begin(ways, 150, concurrency=4)
        state = await site.ended(batch_id)
        made = await site.events(batch_id, slices.SampleGenerated)
        blocked = await site.events(batch_id, notes.RouteBlocked)
    assert (state.state, state.counts.generated) == ("completed", 150)
    assert {event.model for event in made} == {"first/model", "second/model"}
    assert blocked == []  # the batch never stood still


async def test_a_second_batch_with_the_refused_key_fails_in_seconds_too(site: Site) -> None:
    async with ScriptedLLM([HttpError(401)]) as llm, site.generator(probe_after_s=60):
        for _ in range(2):
            state = await site.ended(await site.begin([route(llm.base_url)], 20), bound_s=50)
            assert state.state == "failed"
            assert state.error is not None
            assert state.error.category == "auth"


async def test_a_stop_ends_a_batch_that_waits_for_a_limit(site: Site) -> None:
    async with ScriptedLLM(sample) as llm, site.generator():
        batch_id = await site.begin([route(llm.base_url, rpm=1)], 20)
        await site.reach(batch_id, lambda state: state.counts.generated >= 1)
        await site.command(batch_id, StopBatch())
        state = await site.ended(batch_id, bound_s=50)  # the next call may start after a minute
    assert (state.state, state.counts.generated) == ("stopped", 1)
    assert len(llm.requests) == 1
