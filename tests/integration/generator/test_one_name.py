"""One generator to a name: the second one is refused, and one that was replaced ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from nats.aio.msg import Msg

from millstream.errors import NameTakenError
from millstream.eventlog import presence
from millstream.eventlog.answers import subscribed
from millstream.eventlog.nodes import Nodes
from millstream.eventlog.presence import sign_of
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


async def until_beats(site: Site) -> None:
    async with asyncio.timeout(20):
        while not await beats(site):
            await asyncio.sleep(0.02)


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


async def test_a_living_process_gives_a_sign_and_one_that_was_killed_or_is_frozen_does_not(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = site.log.event_log.answers
    async with site.generator("g1"):
        await until_beats(site)
        assert await sign_of(answers, "generator", "g1")
        await Nodes(answers).leave("generator", "g1")  # as if its beat had aged out
        assert await sign_of(answers, "generator", "g1")
    assert not await sign_of(answers, "generator", "g1")
    await beat_of_another(site)  # it has nobody who listens: it was killed
    assert not await sign_of(answers, "generator", "g1")
    monkeypatch.setattr(presence, "SIGN_S", 0.3)
    async with deaf(site):
        assert not await sign_of(answers, "generator", "g1")


def test_after_an_outage_or_a_start_a_missing_beat_says_nothing_until_all_have_beaten_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, reconnects = 100.0, 0
    monkeypatch.setattr(presence, "boot_seconds", lambda: now)
    beats = presence.Beats(lambda: reconnects)

    def beats_at(moment: float) -> bool:
        nonlocal now
        now = moment
        was_unbroken = beats.are_unbroken
        beats.note()
        return was_unbroken

    assert [beats_at(moment) for moment in (100.0, 103.0, 105.9)] == [False] * 3
    assert [beats_at(moment) for moment in (106.0, 109.0)] == [True] * 2
    assert [beats_at(moment) for moment in (117.0, 127.0, 128.0, 132.9)] == [False] * 4
    assert beats_at(133.0)
    reconnects += 1  # a short outage: no beat was late
    assert [beats_at(moment) for moment in (135.0, 138.0, 140.9)] == [False] * 3
    assert beats_at(141.0)
