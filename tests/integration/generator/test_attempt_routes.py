"""Each attempt names the route that was tried: which of two addresses of one model it was."""

import asyncio
from typing import Any

import pytest

from millstream.eventlog.nodes import Nodes
from millstream.runtime.settings import Settings
from millstream.testing.scripted_llm import Answer, HttpError, Ok, Request, ScriptedLLM, Stall
from millstream.testing.site import Site, route, sample
from millstream.testing.waiting import BOUND_S
from millstream_generator.lanes import Lanes
from millstream_generator.service import main
from millstream_schemas.commands import StopBatch
from millstream_schemas.notes import RouteNotDirect
from millstream_schemas.routes import Route
from millstream_schemas.slices import AttemptEvent, SampleGenerated

pytestmark = pytest.mark.anyio

SECRET = "hush-hush"


def answer(request: Request) -> Answer:
    """Give one answer that is refused, accept some calls, and leave the others open."""
    if request.index == 0:
        return Ok({"question": "no answer beside it"})
    return sample(request) if request.index < 4 else Stall()


async def names_what_was_tried(site: Site, provider: str) -> None:
    async with ScriptedLLM([HttpError(503)]) as bad, ScriptedLLM(answer) as good, site.generator():
        ways = [
            route(llm.base_url, provider=provider, api_key_env="TRIED_API_KEY")
            for llm in (bad, good)
        ]
        batch_id = await site.begin(ways, 20, concurrency=2, max_attempts=5)
        await good.wait_for(lambda _: len(good.requests) > 5)
        await site.command(batch_id, StopBatch())
        await site.ended(batch_id)
        told: list[Any] = await site.events(batch_id, AttemptEvent)
        addresses = await addresses_told(site)
    tried = {(event.type, addresses[event.route]) for event in told}
    assert tried == {
        ("sample.attempt_failed.v1", bad.base_url),
        ("sample.rejected.v1", good.base_url),
        ("sample.generated.v1", good.base_url),
        ("sample.abandoned.v1", good.base_url),
    }
    assert SECRET not in "".join(event.model_dump_json() for event in told)


class Detoured(Lanes):
    """Lanes that call directly, and say that they could not."""

    async def detour(self, route: Route) -> str:
        return f"{route.litellm_model} is reached through a proxy"


async def test_a_batch_is_told_once_and_before_its_samples_that_litellm_calls_its_route(
    direct_site: Site,
) -> None:
    async def serve(settings: Settings, stop: asyncio.Event) -> None:
        lanes = Detoured(settings, settle=lambda: None)
        try:
            await main(settings, lanes, stop)
        finally:
            await lanes.close()

    async with (
        ScriptedLLM(sample) as llm,
        direct_site.generator(serve=serve),
        direct_site.generator("g2", serve=serve),
    ):
        batch_id = await direct_site.begin([route(llm.base_url, provider="simulated")], 20)
        state = await direct_site.ended(batch_id)
        (told,) = await direct_site.events(batch_id, RouteNotDirect)
        made = await direct_site.events(batch_id, SampleGenerated)
    assert (state.counts.generated, state.anomalies, state.held_up) == (20, 0, None)
    assert told.message.startswith("calls go through litellm: openai/")
    assert {event.route for event in made} == {told.route}
    assert told.time <= min(event.time for event in made)


async def addresses_told(site: Site) -> dict[str, str | None]:
    """Return the address of each route by its key, as beats tell it to ``/v1/routes``."""
    nodes = Nodes(site.log.event_log.answers)
    async with asyncio.timeout(BOUND_S):
        while not (found := [one for beat in await nodes.live() for one in beat.routes]):
            await asyncio.sleep(0.05)
    return {one.key: one.address for one in found}


async def test_each_attempt_names_the_address_that_was_tried_in_the_direct_lane(
    direct_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIED_API_KEY", SECRET)
    await names_what_was_tried(direct_site, "simulated")


async def test_each_attempt_names_the_address_that_was_tried_through_litellm(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIED_API_KEY", SECRET)
    await names_what_was_tried(site, "test")
