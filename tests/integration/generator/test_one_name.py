"""One generator to a name: the second one is refused, and one that was replaced ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from nats.aio.msg import Msg

from millstream.errors import NameTakenError
from millstream.eventlog.answers import subscribed
from millstream.eventlog.nodes import Nodes
from millstream.testing.scripted_llm import Answer, Delayed, Request, ScriptedLLM
from millstream.testing.site import Site, route, sample
from millstream.testing.waiting import BOUND_S
from millstream_schemas import subjects
from millstream_schemas.answers import NodeBeat

pytestmark = pytest.mark.anyio

LONG_AGO = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def site(direct_site: Site) -> Site:
    return direct_site


@contextlib.asynccontextmanager
async def deaf(site: Site) -> AsyncIterator[None]:
    """Stand for a process that is frozen: it listens under the name and does nothing."""

    async def hear(_: Msg) -> None:
        """Do nothing."""

    subject = subjects.sign_of_life("generator", "g1")
    async with subscribed(site.log.connection, subject, hear):
        await site.log.connection.flush()
        yield


async def beats(site: Site) -> list[datetime]:
    return [beat.started_at for beat in await Nodes(site.log.event_log.answers).live()]


async def beat_of_another(site: Site) -> None:
    beat = NodeBeat(node="g1", service="generator", started_at=LONG_AGO)
    await Nodes(site.log.event_log.answers).beat(beat)


async def test_a_second_generator_under_a_name_is_refused_and_the_first_goes_on(
    site: Site,
) -> None:
    def answer(request: Request) -> Answer:
        return Delayed(sample(request), 0.02)

    async with ScriptedLLM(answer) as llm, site.generator("g1"):
        batch_id = await site.begin([route(llm.base_url, provider="simulated")], 40)
        await site.reach(batch_id, lambda state: state.counts.generated > 0)
        (first,) = await beats(site)
        with pytest.RaisesGroup(NameTakenError) as caught:
            async with site.generator("g1"):
                await asyncio.sleep(30)
        (reason,) = caught.value.exceptions
        assert str(reason).startswith("MILLSTREAM_NODE='g1' is the name of another generator")
        assert str(reason).endswith("give each its own name, or end that one first")
        state = await site.ended(batch_id)
        assert await beats(site) == [first]
    assert state.counts.generated == 40


async def test_a_name_whose_process_was_killed_is_free_at_once(site: Site) -> None:
    """Its beat would stand for ten seconds more."""
    await beat_of_another(site)
    async with ScriptedLLM(sample) as llm, site.generator("g1"):
        batch_id = await site.begin([route(llm.base_url, provider="simulated")], 4)
        await site.ended(batch_id)
        assert LONG_AGO not in await beats(site)


async def test_a_name_whose_process_is_frozen_is_free_when_its_beat_has_aged_out(
    site: Site,
) -> None:
    await beat_of_another(site)
    async with ScriptedLLM(sample) as llm, deaf(site), site.generator("g1"):
        batch_id = await site.begin([route(llm.base_url, provider="simulated")], 4)
        await asyncio.sleep(1.5)  # in vain
        assert await beats(site) == [LONG_AGO]
        await Nodes(site.log.event_log.answers).leave("generator", "g1")
        await site.ended(batch_id)


async def test_a_generator_that_was_replaced_meanwhile_ends_and_says_so(site: Site) -> None:
    reason = pytest.RaisesExc(NameTakenError, match="was started under the name 'g1'")
    with pytest.RaisesGroup(reason, flatten_subgroups=True):
        async with site.generator("g1") as stop:
            while not await beats(site):
                await asyncio.sleep(0.02)
            await beat_of_another(site)
            async with asyncio.timeout(BOUND_S):
                await stop.wait()
    assert await beats(site) == [LONG_AGO]
