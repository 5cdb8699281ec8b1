"""Calls that wait in line when their node dies: they never started, and no budget pays for them."""

from pathlib import Path

import pytest

from millstream.domain import slice as slices
from millstream.testing.examples import example_spec
from millstream.testing.nats import running_log
from millstream.testing.scripted_llm import Answer, Delayed, HttpError, Request, ScriptedLLM
from millstream.testing.service_process import ServiceProcess
from millstream.testing.site import Site, route, sample
from millstream_generator.in_flight import STEP
from millstream_schemas.control import Budgets
from millstream_schemas.slices import CallsAnnounced, SliceClaimed

pytestmark = pytest.mark.anyio

TARGET = 300
PERMITS = 5
SPARE = 40
"""Calls beyond the target that the budget pays for: far fewer than stand in line."""


@pytest.mark.fault
async def test_a_kill_writes_off_the_calls_in_flight_and_none_of_those_in_line(
    tmp_path: Path,
) -> None:
    """256 slots want to call a route that takes five; the budget has little to spare."""

    def answer(request: Request) -> Answer:
        return Delayed(sample(request), delay_s=0.05)

    async with running_log(tmp_path, lease_s=2.0) as log, ScriptedLLM(answer) as llm:
        site = Site(log)
        budgets = Budgets(max_attempts=TARGET + SPARE)
        spec = example_spec(TARGET, slice_size=16, concurrency=256, budgets=budgets)
        batch_id = await site.begin([route(llm.base_url, max_concurrency=PERMITS)], spec=spec)
        generator = ServiceProcess(
            "millstream_generator",
            tmp_path / "g1.log",
            nats_url=log.server.url,
            data_dir=str(tmp_path),
            node="g1",
            lease_s="2",
        )
        with generator:
            await llm.wait_for(lambda found: len(found) >= 60 and llm.open_requests > 1, 120)
            generator.kill()
            killed = await site.state(batch_id)
            told = killed.counts.generated
            made = len(llm.requests)
            generator.launch()
            state = await site.ended(batch_id, 120)
        claims = await site.events(batch_id, SliceClaimed)
        announced = await site.events(batch_id, CallsAnnounced)
    assert (state.state, state.counts.generated) == ("completed", TARGET)
    assert len(llm.requests) <= TARGET + SPARE
    # Of those slices that the kill left open, each had 16 slots in line or in flight.
    rescued = {claim.slice for claim in claims if claim.rescue_of == "g1"}
    assert len(rescued) > 8
    assert made - told <= state.counts.unconfirmed_calls <= made - told + PERMITS + 2 * STEP
    # Besides one for each claim, few events are written for this alone.
    assert len(announced) <= len(claims) + TARGET // 16


async def test_calls_that_wait_out_a_cooldown_are_not_taken_to_be_in_flight(
    direct_site: Site,
) -> None:
    """The route has no limit of its own, so its calls are counted from its first refusal on."""
    is_refusing = True

    def answer(request: Request) -> Answer:
        return HttpError(429, headers={"Retry-After": "2"}) if is_refusing else sample(request)

    async with ScriptedLLM(answer) as llm, direct_site.generator():
        batch_id = await direct_site.begin(llm.base_url, 40, concurrency=16)
        refused = await direct_site.reach(
            batch_id, lambda state: state.errors.get("rate_limit", 0) == len(llm.requests) >= 8
        )
        tails = [tail.state for tail in refused.slices.values()]
        is_refusing = False
        state = await direct_site.ended(batch_id)
    # But for one or two that had their turn as the refusal came: 16 were taken to be before.
    assert sum(slices.at_risk(tail, 2, 2) for tail in tails if tail.errors) <= 2
    assert (state.state, state.counts.generated, state.counts.unconfirmed_calls) == (
        "completed",
        40,
        0,
    )
