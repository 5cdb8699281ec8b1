"""Slots that fail while nothing else of their batch is left: their own doing, or an outage?"""

import pytest

from millstream.domain.plan import attempt_seed
from millstream.testing.scripted_llm import (
    Answer,
    Delayed,
    Disconnect,
    HttpError,
    Request,
    ScriptedLLM,
)
from millstream.testing.site import Site, route, sample
from millstream_schemas.routes import Route

pytestmark = pytest.mark.anyio


@pytest.fixture
def site(direct_site: Site) -> Site:
    return direct_site


def way(llm: ScriptedLLM) -> Route:
    """Return a route that is called directly without asking litellm."""
    return route(llm.base_url, provider="simulated")


@pytest.mark.parametrize(
    ("failing", "broken"), [(1, HttpError(500)), (3, HttpError(500)), (2, Disconnect(0))]
)
async def test_the_last_slots_of_a_batch_are_given_up_though_only_they_are_left(
    site: Site, failing: int, broken: Answer
) -> None:
    """Their failures open the circuit; another slot's request, asked in their place, closes it."""

    def answer(request: Request) -> Answer:
        return broken if request.body["seed"] in seeds else sample(request)

    async with ScriptedLLM(answer) as llm:
        batch_id = await site.begin([way(llm)], 20, concurrency=20)
        spec = (await site.state(batch_id)).spec
        numbers = range(1, spec.max_attempts + 1)
        seeds = {attempt_seed(spec, slot, number) for slot in range(failing) for number in numbers}
        async with site.generator():
            state = await site.ended(batch_id)
    counts = state.counts
    assert (state.state, counts.generated, counts.failed) == ("completed", 20 - failing, failing)
    assert state.held_up is None
    # Every call is accounted for, those in place of another slot's too.
    told = counts.generated + counts.attempts_failed
    assert len(llm.requests) == told + counts.unconfirmed_calls > told


async def test_many_last_slots_of_a_topic_that_always_fails_are_given_up_in_a_few_rounds(
    site: Site,
) -> None:
    """Each has hardly failed when the circuit opens; its probes fail in turn, and then ask others.

    Once others are answered, the failures of all of them count, not those of the first few.
    """

    def answer(request: Request) -> Answer:
        is_broken = "Torts" in str(request.body["messages"])
        return Delayed(HttpError(500), 0.05) if is_broken else sample(request)

    async with ScriptedLLM(answer) as llm, site.generator():
        batch_id = await site.begin([way(llm)], 40, concurrency=40)
        state = await site.ended(batch_id)
    counts = state.counts
    assert (state.state, counts.generated, counts.failed) == ("completed", 20, 20)
    assert counts.unconfirmed_calls <= 2 * state.spec.max_attempts


async def test_the_last_slots_wait_for_an_outage_to_end_however_long_it_is(site: Site) -> None:
    """The other slot's request fails, too; no failure of its is theirs."""

    def answer(request: Request) -> Answer:
        return HttpError(503) if 17 <= request.index < 28 else sample(request)

    async with ScriptedLLM(answer) as llm, site.generator():
        batch_id = await site.begin([way(llm)], 20, concurrency=20)
        counts = (await site.ended(batch_id)).counts
    assert (counts.generated, counts.failed, counts.attempts_failed) == (20, 0, 11)
