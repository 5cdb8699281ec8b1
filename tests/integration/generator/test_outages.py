"""After an outage of the log every lease has run out: those who live go on with what they hold."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from millstream.errors import LogUnavailableError
from millstream.eventlog import presence
from millstream.eventlog.nodes import Nodes
from millstream.eventlog.presence import heard
from millstream.eventlog.topology import ensure_topology
from millstream.eventlog.work import WorkQueue, WorkSize
from millstream.testing.nats import claim
from millstream.testing.scripted_llm import Answer, Delayed, Request, ScriptedLLM
from millstream.testing.site import Site, route, sample
from millstream.testing.waiting import BOUND_S
from millstream_generator import claims, holders
from millstream_schemas import subjects
from millstream_schemas.answers import NodeBeat
from millstream_schemas.slices import SliceClaimed

pytestmark = pytest.mark.anyio

LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)
GHOST = "ghost"


@pytest.fixture
def site(direct_site: Site) -> Site:
    return direct_site


async def redelivered(site: Site, least: int) -> None:
    """Return once so many slices were offered again."""
    consumer = subjects.work_consumer("default", "normal")
    subject = f"$JS.API.CONSUMER.INFO.{subjects.WORK}.{consumer}"
    async with asyncio.timeout(BOUND_S):
        while True:
            with contextlib.suppress(LogUnavailableError):
                answer = await site.log.event_log.answers.ask(subject, b"")
                if json.loads(answer.data).get("num_redelivered", 0) >= least:
                    return
            await asyncio.sleep(0.02)


async def test_what_living_nodes_hold_through_an_outage_is_not_paid_twice(site: Site) -> None:
    """Their calls are in flight all the while; their slices are offered to others after it."""
    is_over = asyncio.Event()

    def answer(request: Request) -> Answer:
        return Delayed(sample(request), until=is_over)

    async with contextlib.AsyncExitStack() as stack:
        llm = await stack.enter_async_context(ScriptedLLM(answer))
        for number in range(3):
            await stack.enter_async_context(site.generator(f"g{number}", node_concurrency=16))
        ways = [route(llm.base_url, provider="simulated", timeout_s=600.0, stall_s=600.0)]
        batch_id = await site.begin(ways, 48, slice_size=2, concurrency=32)
        await llm.wait_for(lambda _: llm.open_requests == 32)
        site.log.server.kill()
        await asyncio.sleep(1.5 * site.log.settings.lease_s)  # the outage: no lease outlasts it
        await site.log.server.start()
        await redelivered(site, 1)  # a holder that is back first keeps its others
        is_over.set()
        state = await site.ended(batch_id)
        made = await site.events(batch_id, SliceClaimed)
    assert (state.counts.generated, state.counts.unconfirmed_calls) == (48, 0)
    assert len(llm.requests) == 48
    assert {one.rescue_of for one in made} == {None}


async def held_by_ghost(site: Site, batch_id: str) -> None:
    """Let slice 0 be held by a node called ghost, and be offered to others."""
    await ensure_topology(site.log.connection, site.log.settings, takes_work=True)
    event = claim(0, batch_id=batch_id)
    held = event.after.model_copy(update={"node": GHOST})
    await site.log.event_log.append(event.model_copy(update={"after": held}), expected=0)
    queue = WorkQueue(site.log.event_log.answers)
    await queue.enqueue("default", "normal", batch_id, [0], WorkSize(1, 2))


@contextlib.asynccontextmanager
async def beating(site: Site) -> AsyncIterator[None]:
    """Let ghost beat, at once when asked."""
    beat = NodeBeat(node=GHOST, service="generator", started_at=LONG_AGO)
    ghost = presence.Presence(site.log.event_log, lambda: beat)
    async with asyncio.TaskGroup() as tasks:
        await ghost.take(asyncio.Event())
        keeping = tasks.create_task(ghost.keep())
        yield
        keeping.cancel()


async def test_a_node_that_starts_as_the_log_comes_back_takes_no_silent_holder_for_dead(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder's beat has aged out, and it is not connected again yet."""
    asked = asyncio.Event()
    whereabouts = claims.whereabouts

    async def told(*asking: Any) -> holders.Whereabouts:
        found = await whereabouts(*asking)
        asked.set()
        return found

    monkeypatch.setattr(claims, "whereabouts", told)
    async with ScriptedLLM(sample) as llm:
        batch_id = await site.begin([route(llm.base_url, provider="simulated")], 4)
        await held_by_ghost(site, batch_id)
        async with site.generator():
            await asked.wait()
            async with beating(site):
                state = await site.ended(batch_id)
        rescues = [one for one in await site.events(batch_id, SliceClaimed) if one.rescue_of]
    assert state.counts.generated == 4
    # It was found to live; and since it does not work on the slice, another one does.
    assert [(one.rescue_of, one.holder_lives) for one in rescues] == [(GHOST, True)]


async def test_a_holder_that_stays_silent_is_dead_in_the_end(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "SETTLE_S", 1.0)
    async with ScriptedLLM(sample) as llm:
        batch_id = await site.begin([route(llm.base_url, provider="simulated")], 4)
        await held_by_ghost(site, batch_id)
        async with site.generator():
            state = await site.ended(batch_id)
        rescues = [one for one in await site.events(batch_id, SliceClaimed) if one.rescue_of]
    assert state.counts.generated == 4
    assert [(one.rescue_of, one.holder_lives) for one in rescues] == [(GHOST, False)]


async def test_what_a_living_node_works_on_is_left_to_it_until_it_drops_it(site: Site) -> None:
    """The queue offers the slice each time that its lease has run out."""
    async with ScriptedLLM(sample) as llm, beating(site):
        batch_id = await site.begin([route(llm.base_url, provider="simulated")], 4)
        subject = subjects.at_work(GHOST, batch_id, 0)
        async with heard(site.log.connection, subject):
            await held_by_ghost(site, batch_id)
            async with site.generator():
                await site.reach(batch_id, lambda state: state.counts.generated == 2)
                await redelivered(site, 1)
                assert (await site.state(batch_id)).slices[0].state.node == GHOST


async def test_a_holder_that_the_log_does_not_tell_of_is_asked_for_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slice is offered again in a moment, not when its lease of a minute has run out."""
    look, looks = Nodes.of, 0

    async def refused_once(self: Nodes, service: str, name: str) -> NodeBeat | None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise LogUnavailableError("no answer")
        return await look(self, service, name)

    monkeypatch.setattr(Nodes, "of", refused_once)
    async with ScriptedLLM(sample) as llm, beating(site):
        batch_id = await site.begin([route(llm.base_url, provider="simulated")], 4)
        await held_by_ghost(site, batch_id)
        async with site.generator(lease_s=60.0):
            state = await site.ended(batch_id)
    assert (state.counts.generated, looks) == (4, 2)
