"""A store that is nearly full takes what is on its way, and no new call starts."""

import asyncio
import contextlib
import itertools
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from millstream.errors import LogFullError
from millstream.eventlog.fullness import Fullness
from millstream.eventlog.nodes import Nodes
from millstream.eventlog.topology import ensure_topology
from millstream.runtime.settings import Settings
from millstream.testing.nats import RunningLog, claim, running_log
from millstream.testing.scripted_answers import Delayed, Request
from millstream.testing.scripted_llm import ScriptedLLM
from millstream.testing.site import POLL_S, Serve, Site, sample
from millstream.testing.waiting import BOUND_S
from millstream_generator import steps
from millstream_generator.measures import Tally
from millstream_generator.writer import SliceWriter
from millstream_schemas.commands import StopBatch

pytestmark = [pytest.mark.anyio]

SIZE = 2 * 2**20
PIECE = 20_000
OTHER = "batch_1767225600_000000ff"


async def test_no_call_starts_while_the_store_is_nearly_full(
    tmp_path: Path, serve_direct: Serve
) -> None:
    async with running_log(tmp_path, max_bytes=SIZE) as log, ScriptedLLM(sample) as llm:
        site = Site(log, serve_direct)
        batch_id = await site.begin(llm.base_url, 10)
        index = 1000
        while (await log.event_log.fill()).share < 0.95:
            await log.event_log.append(claim(index, batch_id=OTHER, padding=PIECE), expected=0)
            index += 1
        async with site.generator():
            async with asyncio.timeout(BOUND_S):
                while not any(beat.note for beat in await Nodes(log.event_log.answers).live()):
                    await asyncio.sleep(POLL_S)
            (beat,) = await Nodes(log.event_log.answers).live()
            assert "MILLSTREAM_MAX_BYTES" in (beat.note or "")
            assert llm.requests == []
            assert not (await site.state(batch_id)).slices, "a claim takes room, too"
            larger = Settings(**{**log.settings.model_dump(), "max_bytes": 2 * SIZE})
            await ensure_topology(log.connection, larger)
            state = await site.ended(batch_id)
    assert (state.state, state.counts.generated) == ("completed", 10)
    assert {"finished"} == {request.outcome for request in llm.requests}


async def fill(log: RunningLog) -> None:
    """Append until the store takes no more, not even a small event."""
    indexes = itertools.count(1000)
    for padding in (PIECE, 0):
        with contextlib.suppress(LogFullError):
            for index in indexes:
                event = claim(index, batch_id=OTHER, padding=padding)
                await log.event_log.append(event, expected=0)


async def test_answers_that_find_the_store_full_wait_for_room_and_are_paid_once(
    tmp_path: Path, serve_direct: Serve
) -> None:
    may_answer = asyncio.Event()

    def answer(request: Request) -> Delayed:
        return Delayed(sample(request), until=may_answer)

    async with running_log(tmp_path, max_bytes=SIZE) as log, ScriptedLLM(answer) as llm:
        site = Site(log, serve_direct)
        batch_id = await site.begin(llm.base_url, 4, slice_size=4, concurrency=4)
        async with site.generator():
            await llm.wait_for(lambda requests: len(requests) > 0)
            await fill(log)
            with capture_logs() as told:
                may_answer.set()
                while not any(line["event"] == "append.refused" for line in told):
                    await asyncio.sleep(POLL_S)
            assert (await site.state(batch_id)).counts.generated == 0
            larger = Settings(**{**log.settings.model_dump(), "max_bytes": 2 * SIZE})
            await ensure_topology(log.connection, larger)
            state = await site.ended(batch_id)
    assert (state.state, state.counts.generated) == ("completed", 4)
    assert len(llm.requests) == 4


async def test_a_refusal_by_the_store_itself_stops_calls_at_once_wherever_the_last_look_was(
    tmp_path: Path, serve_direct: Serve
) -> None:
    async with running_log(tmp_path, max_bytes=SIZE) as log, asyncio.TaskGroup() as tasks:
        site, fullness = Site(log, serve_direct), Fullness(log.event_log)
        await fullness.look()
        assert fullness.has_room
        await fill(log)
        writer = SliceWriter(log.event_log, OTHER, 0, site.stamp, Tally(), fullness)
        with capture_logs() as told:
            claiming = tasks.create_task(writer.record(steps.claimed("n")))
            while not any(line["event"] == "append.refused" for line in told):
                await asyncio.sleep(POLL_S)
            assert not fullness.has_room
            assert "MILLSTREAM_MAX_BYTES" in (fullness.note or "")
            larger = Settings(**{**log.settings.model_dump(), "max_bytes": 2 * SIZE})
            await ensure_topology(log.connection, larger)
            await fullness.look()
            assert not fullness.has_room or claiming.done()
            await claiming
        assert fullness.has_room
        assert fullness.note is None


async def test_a_small_store_is_never_filled_by_answers_so_that_a_stop_works_at_once(
    tmp_path: Path, serve_direct: Serve
) -> None:
    """The calls of two looks could write more than the last twentieth of it."""
    async with running_log(tmp_path, max_bytes=SIZE) as log, ScriptedLLM(sample) as llm:
        site = Site(log, serve_direct)
        batch_id = await site.begin(llm.base_url, 20_000, slice_size=64, concurrency=256)
        with capture_logs() as told:
            async with site.generator():
                while not any(line["event"] == "store.nearly_full" for line in told):
                    await asyncio.sleep(POLL_S)
                await site.command(batch_id, StopBatch())
                state = await site.ended(batch_id)
        fill = await log.event_log.fill()
    assert state.state == "stopped"
    assert state.counts.generated == len([one for one in llm.requests if one.outcome == "finished"])
    assert not any(line["event"] == "append.refused" for line in told)
    assert 0.8 < fill.share < 1.0


async def test_a_stop_that_finds_the_store_full_takes_effect_once_there_is_room(
    tmp_path: Path, serve_direct: Serve
) -> None:
    async with (
        running_log(tmp_path, max_bytes=SIZE) as log,
        ScriptedLLM(lambda request: Delayed(sample(request), 60.0)) as llm,
    ):
        site = Site(log, serve_direct)
        batch_id = await site.begin(llm.base_url, 4, slice_size=4, concurrency=4)
        async with site.generator() as stop:
            await llm.wait_for(lambda requests: len(requests) > 0)
            stop.set()
        await site.command(batch_id, StopBatch())
        await fill(log)
        with capture_logs() as told:
            async with site.generator():
                while not any(line["event"] == "dispatcher.fence_postponed" for line in told):
                    await asyncio.sleep(POLL_S)
                assert (await site.state(batch_id)).state == "stopping"
                larger = Settings(**{**log.settings.model_dump(), "max_bytes": 2 * SIZE})
                await ensure_topology(log.connection, larger)
                state = await site.ended(batch_id)
    assert (state.state, state.counts.abandoned) == ("stopped", 4)
    reason = next(line for line in told if line["event"] == "dispatcher.fence_postponed")
    assert "MILLSTREAM_MAX_BYTES" in reason["reason"]
