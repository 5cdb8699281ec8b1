"""A batch that its route's own limits slow down is told of while it is, and no longer."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from millstream.eventlog.limited import LimitedBatches
from millstream.eventlog.limits import SharedLimits
from millstream.testing.scripted_llm import Answer, Delayed, Request, ScriptedLLM
from millstream.testing.site import Site, route, sample
from millstream.testing.waiting import until
from millstream_generator.condition import Condition
from millstream_generator.gate import Gate
from millstream_generator.limited import LimitSignal, limited_routes
from millstream_schemas.commands import StopBatch
from millstream_schemas.limited import LimitedBy

pytestmark = pytest.mark.anyio

CALL_S = 0.4


def slow(request: Request) -> Answer:
    return Delayed(sample(request), CALL_S)


async def test_a_pace_of_next_to_nothing_is_told_as_more_than_none(
    direct_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = SharedLimits(direct_site.log.event_log.answers, "test")
    way = route("http://127.0.0.1:1", provider="simulated", rpm=60)
    condition = Condition("route.test", way, shared, node="g1", first_probe_s=1.5)
    await condition.read()
    batch: Any = SimpleNamespace(
        batch_id="b1", gates=[Gate(condition, random.Random(1))], calls={1}
    )
    monkeypatch.setattr("millstream.domain.limits.share", lambda *_: 0.004)
    (told,) = limited_routes([batch])
    assert 0 < told.share < 0.01


async def test_a_signal_that_cannot_be_made_is_said_once_and_tried_again() -> None:
    tries: list[int] = []

    class Broken:
        def working(self) -> list[Any]:
            tries.append(1)
            raise OverflowError

    held: Any = Broken()
    node: Any = None
    with structlog.testing.capture_logs() as logs:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(LimitSignal(node, held).run())
            await until(lambda: len(tries) > 1)
            running.cancel()
    assert [line["event"] for line in logs] == ["limited.not_told"]


@contextlib.asynccontextmanager
async def heard(site: Site) -> AsyncIterator[Callable[[str], LimitedBy | None]]:
    """Hear what generators say; gives what limits a batch now."""
    limited = LimitedBatches()

    def of(batch_id: str) -> LimitedBy | None:
        found = limited.now().get(batch_id)
        return found.by if found else None

    async with limited.listening(site.log.event_log.connection):
        yield of


async def stop(site: Site, *batch_ids: str) -> None:
    for batch_id in batch_ids:
        await site.command(batch_id, StopBatch())
        await site.ended(batch_id)


async def test_batches_that_share_the_calls_in_flight_of_a_route_say_so_on_every_node(
    direct_site: Site,
) -> None:
    async with ScriptedLLM(slow) as llm, heard(direct_site) as limited:
        few = route(llm.base_url, provider="simulated", max_concurrency=3)
        async with direct_site.generator("g1"), direct_site.generator("g2"):
            ids = [await direct_site.begin([few], 200, concurrency=8) for _ in range(2)]
            for batch_id in ids:
                await until(lambda one=batch_id: (by := limited(one)) and by.shared_with == 1)
            by = limited(ids[0])
            await stop(direct_site, ids[1])
            await until(lambda: (by := limited(ids[0])) is not None and not by.shared_with)
            assert limited(ids[1]) is None
            await stop(direct_site, ids[0])
            await until(lambda: limited(ids[0]) is None)
    assert by is not None
    words = "its route's limit: 3 of 3 calls in flight (shared with 1 other batch)"
    assert (by.kind, by.limit, by.model, by.message) == ("calls", 3, few.model, words)
    assert by.waiting > 0


async def test_a_batch_at_the_full_speed_of_its_pace_says_so_and_is_not_held_up(
    direct_site: Site,
) -> None:
    async with ScriptedLLM(sample) as llm, heard(direct_site) as limited, direct_site.generator():
        paced = route(llm.base_url, provider="simulated", rpm=120)
        batch_id = await direct_site.begin([paced], 40, concurrency=1)
        await until(lambda: limited(batch_id) is not None)
        by = limited(batch_id)
        state = await direct_site.reach(batch_id, lambda state: state.counts.generated >= 4)
        assert limited(batch_id) is not None  # though none of its calls may wait just now
        await stop(direct_site, batch_id)
    assert by is not None
    assert (by.kind, by.message) == ("requests", "its route's limit: 120 requests a minute")
    assert state.held_up is None


async def test_a_route_that_has_room_limits_nobody(direct_site: Site) -> None:
    spoken: list[str] = []
    async with ScriptedLLM(slow) as llm, heard(direct_site) as limited, direct_site.generator():
        wide = route(llm.base_url, provider="simulated", max_concurrency=20, rpm=60_000)
        batch_id = await direct_site.begin([wide], 24, concurrency=4)
        while not (await direct_site.state(batch_id)).is_final:
            if (by := limited(batch_id)) is not None:
                spoken.append(by.message)
            await asyncio.sleep(0.05)
    assert spoken == []


async def test_the_word_of_a_node_that_is_gone_holds_no_longer(direct_site: Site) -> None:
    """It is not taken back: of a killed one nobody would."""
    async with ScriptedLLM(slow) as llm, heard(direct_site) as limited:
        few = route(llm.base_url, provider="simulated", max_concurrency=1)
        async with direct_site.generator("g1"):
            batch_id = await direct_site.begin([few], 100, concurrency=4)
            await until(lambda: limited(batch_id) is not None)
        await until(lambda: limited(batch_id) is None)
