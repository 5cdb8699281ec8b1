"""What holds a batch up is told whenever it began, and only while no route takes calls."""

import pytest

from millstream.testing import site as sites
from millstream.testing.scripted_llm import Answer, Delayed, HttpError, Request, ScriptedLLM
from millstream.testing.site import Site, sample
from millstream_schemas import notes
from millstream_schemas.commands import StopBatch
from millstream_schemas.routes import Route

pytestmark = pytest.mark.anyio

LIMITED = HttpError(429, headers={"Retry-After": "60"})


def route(llm: ScriptedLLM) -> Route:
    return sites.route(llm.base_url, provider="simulated")


@pytest.mark.parametrize(("answer", "kind"), [(LIMITED, "throttled"), (HttpError(503), "blocked")])
async def test_a_batch_that_comes_to_a_route_in_trouble_says_so(
    direct_site: Site, answer: Answer, kind: str
) -> None:
    """Nothing changes at the route any more as the second batch comes."""

    def answered(request: Request) -> Answer:
        return sample(request) if request.index < 2 else answer

    async with ScriptedLLM(answered) as llm, direct_site.generator(probe_after_s=60.0):
        way = route(llm)
        ids = [await direct_site.begin([way], 20, concurrency=6)]
        await direct_site.reach(ids[0], lambda state: state.held_up is not None)
        ids.append(await direct_site.begin([way], 4))
        state = await direct_site.reach(ids[1], lambda state: state.held_up is not None)
        kinds = notes.RouteThrottled | notes.RouteBlocked
        told = [event for event in await direct_site.history(ids[1]) if isinstance(event, kinds)]
        for batch_id in ids:
            await direct_site.command(batch_id, StopBatch())
            await direct_site.ended(batch_id)
    assert state.held_up is not None
    assert (state.held_up.kind, state.held_up.model) == (kind, way.model)
    assert len(told) == 1


async def test_a_batch_that_goes_on_by_another_route_is_not_held_up(direct_site: Site) -> None:
    async with ScriptedLLM([LIMITED]) as bad, ScriptedLLM(sample) as good, direct_site.generator():
        batch_id = await direct_site.begin([route(bad), route(good)], 30, concurrency=4)
        state = await direct_site.ended(batch_id)
        told = await direct_site.events(batch_id, notes.RouteThrottled)
    assert state.counts.generated == 30
    assert told == []


async def test_a_batch_waits_for_the_first_of_its_routes_and_goes_on_with_it(
    direct_site: Site,
) -> None:
    """The longer cooldown of the other route, of the same model, is told after it as well."""

    def second(request: Request) -> Answer:
        if request.index == 0:
            return HttpError(429, headers={"Retry-After": "3"})
        return LIMITED if request.index > 8 else Delayed(sample(request), 0.05)

    async with ScriptedLLM([LIMITED]) as one, ScriptedLLM(second) as two, direct_site.generator():
        batch_id = await direct_site.begin([route(one), route(two)], 30, concurrency=2)
        short = await direct_site.reach(batch_id, lambda state: state.held_up is not None)
        long = await direct_site.reach(
            batch_id, lambda state: state.held_up is not None and "60 s" in state.held_up.message
        )
        await direct_site.command(batch_id, StopBatch())
        await direct_site.ended(batch_id)
    assert short.held_up is not None
    assert "asked to wait 3 s" in short.held_up.message
    assert long.counts.generated > 0
