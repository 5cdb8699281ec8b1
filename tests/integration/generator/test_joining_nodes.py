"""A node that has just come knows nothing of a route: it asks before its first call."""

import asyncio
import socket

import pytest

from millstream.domain import route_health as health
from millstream.eventlog.limits import SharedLimits, Step, route_key
from millstream.testing import site as sites
from millstream.testing.scripted_llm import Answer, Delayed, Request, ScriptedLLM
from millstream.testing.site import Site, sample
from millstream_generator import condition
from millstream_schemas.routes import Route

pytestmark = pytest.mark.anyio


def route(llm: ScriptedLLM) -> Route:
    return sites.route(llm.base_url, provider="simulated")


async def known(site: Site, way: Route, step: Step) -> SharedLimits:
    """Store what other nodes have learned of a route."""
    shared = SharedLimits(site.log.event_log.answers, "other")
    await shared.change(route_key(way, way.api_base, socket.gethostname()), step)
    return shared


async def test_a_node_that_joins_in_a_cooldown_calls_only_after_it(direct_site: Site) -> None:
    async with ScriptedLLM(sample) as llm:
        way = route(llm)
        shared = await known(
            direct_site,
            way,
            lambda state, now: health.throttled(
                state, now, started_at=now, retry_after_s=2.0, cause="too many"
            ),
        )
        key = route_key(way, way.api_base, socket.gethostname())
        left_s = (await shared.read(key)).cooldown_until - shared.clock.now()
        over_at = asyncio.get_running_loop().time() + left_s
        async with direct_site.generator():
            state = await direct_site.ended(await direct_site.begin([way], 20, concurrency=8))
    assert state.counts.generated == 20
    assert min(request.started_at for request in llm.requests) >= over_at - 0.1  # clocks differ


async def test_a_node_that_joins_an_open_circuit_probes_with_one_call(direct_site: Site) -> None:
    def answer(request: Request) -> Answer:
        return Delayed(sample(request), 0.3)

    async with ScriptedLLM(answer) as llm:
        way = route(llm)
        await known(
            direct_site,
            way,
            lambda state, now: health.opened(
                state, now, failures=5, message="it is down", first_s=0.0
            ),
        )
        async with direct_site.generator():
            state = await direct_site.ended(await direct_site.begin([way], 20, concurrency=20))
    assert state.counts.generated == 20
    probe, *others = llm.requests
    assert probe.finished_at is not None
    assert min(request.started_at for request in others) >= probe.finished_at


async def test_a_node_that_cannot_ask_for_long_calls_all_the_same(
    direct_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket is gone, the log is not."""
    monkeypatch.setattr(condition, "UNKNOWN_MOST_S", 0.2)
    async with ScriptedLLM(sample) as llm, direct_site.generator():
        first = await direct_site.begin([route(llm)], 4)
        await direct_site.ended(first)
        await direct_site.log.event_log.answers.ask(
            "$JS.API.STREAM.DELETE.KV_millstream_limits", b""
        )
        async with ScriptedLLM(sample) as other:
            state = await direct_site.ended(await direct_site.begin([route(other)], 20))
    assert state.counts.generated == 20
