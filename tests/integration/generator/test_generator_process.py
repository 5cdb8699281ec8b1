"""Generators as processes: they leave in order on SIGTERM, and are replaced when they don't."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from millstream.eventlog.buckets import Bucket
from millstream.runtime.clock import boot_seconds
from millstream.runtime.settings import Settings
from millstream.testing.nats import RunningLog, running_log
from millstream.testing.scripted_llm import Answer, Delayed, Request, ScriptedLLM, Stall
from millstream.testing.service_process import ServiceProcess
from millstream.testing.site import Site, route, sample
from millstream.testing.waiting import until
from millstream_generator.leadership import LEADER_KEY
from millstream_schemas import slices, subjects

pytestmark = [pytest.mark.anyio, pytest.mark.fault]

START_S = 60.0
STOP_S = 30.0
"""Nothing that a test holds up would end so soon by itself."""


def process(log: RunningLog, path: Path, node: str) -> ServiceProcess:
    return ServiceProcess(
        "millstream_generator",
        path / f"{node}.log",
        nats_url=log.server.url,
        data_dir=str(path),
        node=node,
        lease_s=f"{log.settings.lease_s:g}",
    )


async def leader(log: RunningLog) -> str:
    """Return the node whose dispatcher leads."""
    entry = await Bucket(log.event_log.answers, subjects.NODES_BUCKET).get(LEADER_KEY)
    return entry.value.decode() if entry else ""


async def leads(log: RunningLog, node: str) -> None:
    deadline = boot_seconds() + START_S
    while await leader(log) != node:
        assert boot_seconds() < deadline, f"{node} does not lead"


async def ended(found: ServiceProcess) -> float:
    """Return how many seconds the process took to end after a SIGTERM."""
    started = boot_seconds()
    os.kill(found.pid, signal.SIGTERM)
    await until(lambda: found.exit_code is not None)
    return boot_seconds() - started


async def no_service(settings: Settings, stop: asyncio.Event) -> None:
    raise AssertionError("the generators of these tests are processes")


async def test_sigterm_gives_the_leases_back_and_another_node_takes_over_at_once(
    tmp_path: Path,
) -> None:
    """The lease is far longer than the test, so that only giving it back can pass it on."""
    stuck = True

    def answer(request: Request) -> Answer:
        return Stall() if stuck else sample(request)

    async with running_log(tmp_path, lease_s=600.0) as log, ScriptedLLM(answer) as llm:
        site = Site(log, no_service)
        first, second = (process(log, tmp_path, node) for node in ("g1", "g2"))
        with first:
            await leads(log, "g1")
            batch_id = await site.begin([route(llm.base_url, stall_s=600, timeout_s=600)], 30)
            await llm.wait_for(lambda _: llm.open_requests == 8, START_S)
            with second:
                await until(lambda: "generator.ready" in second.log(), bound_s=START_S)
                stuck = False
                assert await ended(first) < STOP_S
                state = await site.ended(batch_id)
                assert (state.state, state.counts.generated) == ("completed", 30)
                assert await leader(log) == "g2"
                claims = await site.events(batch_id, slices.SliceClaimed)
                given_up = await site.events(batch_id, slices.SliceReleased)
    assert [event.after.node for event in given_up] == [""] * 8
    assert {claim.rescue_of for claim in claims} == {None}
    # The calls that SIGTERM cut short may have cost something; no attempt was used up.
    assert (state.counts.unconfirmed_calls, state.counts.attempts_failed) == (8, 0)
    assert first.exit_code == second.exit_code == 0
    assert "Traceback" not in first.log() + second.log()
    assert {request.outcome for request in llm.requests[:8]} == {"cancelled"}


async def test_a_killed_leader_is_replaced_in_all_it_did(tmp_path: Path) -> None:
    def answer(request: Request) -> Answer:
        return Delayed(sample(request), delay_s=0.05)

    async with running_log(tmp_path, lease_s=2.0) as log, ScriptedLLM(answer) as llm:
        site = Site(log, no_service)
        first, second = (process(log, tmp_path, node) for node in ("g1", "g2"))
        with first:
            await leads(log, "g1")
            with second:
                await until(lambda: "generator.ready" in second.log(), bound_s=START_S)
                batch_id = await site.begin(llm.base_url, 200)
                await site.reach(batch_id, lambda state: state.counts.generated > 20)
                first.kill()
                state = await site.ended(batch_id)
                assert (state.state, state.counts.generated) == ("completed", 200)
                assert await site.outcomes(batch_id) == dict.fromkeys(range(200), 1)
                assert await leader(log) == "g2"


async def test_sigterm_is_obeyed_in_time_though_nats_is_gone(tmp_path: Path) -> None:
    async with running_log(tmp_path, lease_s=2.0) as log, ScriptedLLM([Stall()]) as llm:
        with process(log, tmp_path, "g1") as generator:
            await Site(log, no_service).begin(llm.base_url, 30)
            await llm.wait_for(lambda _: llm.open_requests == 8, START_S)
            log.server.kill()
            await log.server.wait()
            assert await ended(generator) < STOP_S
        assert "Traceback" not in generator.log()


async def test_sigterm_is_obeyed_in_time_though_answers_wait_for_nats(tmp_path: Path) -> None:
    gate = asyncio.Event()

    def answer(request: Request) -> Answer:
        return Delayed(sample(request), until=gate)

    async with running_log(tmp_path, lease_s=2.0) as log, ScriptedLLM(answer) as llm:
        with process(log, tmp_path, "g1") as generator:
            await Site(log, no_service).begin(llm.base_url, 30)
            await llm.wait_for(lambda _: llm.open_requests == 8, START_S)
            log.server.kill()
            await log.server.wait()
            gate.set()
            await llm.wait_for(lambda _: llm.open_requests == 0)
            await until(lambda: "append.waiting" in generator.log())
            assert await ended(generator) < STOP_S
        assert "Traceback" not in generator.log()
