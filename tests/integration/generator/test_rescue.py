"""Nodes that die: others take over, and a slot that kills nodes takes no other with it."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from millstream.domain.batch_state import BatchState
from millstream.domain.plan import attempt_seed
from millstream.runtime.settings import Settings
from millstream.testing.nats import RunningLog, running_log
from millstream.testing.scripted_llm import Answer, Ok, Request, ScriptedLLM, Stall
from millstream.testing.service_process import ServiceProcess
from millstream.testing.site import Serve, Site, route, sample
from millstream.testing.waiting import until
from millstream_generator import slot_work
from millstream_generator.validation import validate
from millstream_schemas import slices

pytestmark = [pytest.mark.anyio, pytest.mark.fault, pytest.mark.timeout(400)]


def process(log: RunningLog, path: Path, node: str) -> ServiceProcess:
    return ServiceProcess(
        "millstream_generator",
        path / f"{node}.log",
        nats_url=log.server.url,
        data_dir=str(path),
        node=node,
        lease_s=f"{log.settings.lease_s:g}",
    )


async def no_service(settings: Settings, stop: asyncio.Event) -> None:
    raise AssertionError("the generators of these tests are processes")


def all_claimed_by(node: str) -> Callable[[BatchState], bool]:
    """Return whether every slice that was ever claimed is the node's."""
    return lambda state: {tail.state.node for tail in state.slices.values()} == {node}


async def test_an_idle_generator_takes_over_from_a_dead_one_by_itself(tmp_path: Path) -> None:
    """With the default lease: the other node hears nothing but that no beat came."""
    stuck = True

    def answer(request: Request) -> Answer:
        return Stall() if stuck else sample(request)

    async with (
        running_log(tmp_path, lease_s=Settings().lease_s) as log,
        ScriptedLLM(answer) as llm,
    ):
        site = Site(log, no_service)
        first, second = (process(log, tmp_path, node) for node in ("g1", "g2"))
        with first:
            await until(lambda: "generator.ready" in first.log())
            batch_id = await site.begin([route(llm.base_url, stall_s=600, timeout_s=600)], 30)
            await llm.wait_for(lambda _: llm.open_requests == 8)
            with second:
                await until(lambda: "generator.ready" in second.log())
                stuck = False
                first.kill()
                await site.reach(batch_id, all_claimed_by("g2"))
                state = await site.ended(batch_id)
                claims = await site.events(batch_id, slices.SliceClaimed)
    rescues = [claim for claim in claims if claim.rescue_of == "g1"]
    assert (state.counts.generated, len(rescues)) == (30, 8)
    assert state.counts.unconfirmed_calls == 8
    assert {claim.holder_lives for claim in rescues} == {False}


async def test_a_slot_that_kills_every_node_fails_alone(tmp_path: Path) -> None:
    """The model's answer to one slot kills the node that asked for it, each time."""
    deadly = 5
    killed: list[int] = []

    async with running_log(tmp_path, lease_s=2.0) as log:
        site = Site(log, no_service)
        generator = process(log, tmp_path, "g1")

        def answer(request: Request) -> Answer:
            if request.body["seed"] in seeds:
                killed.append(generator.pid)
                os.kill(generator.pid, signal.SIGKILL)
                return Stall()
            return sample(request)

        seeds: set[int] = set()
        async with ScriptedLLM(answer) as llm:
            batch_id = await site.begin(
                [route(llm.base_url, stall_s=600, timeout_s=600)], 8, slice_size=8, concurrency=128
            )
            spec = (await site.state(batch_id)).spec
            seeds.update(attempt_seed(spec, deadly, number) for number in range(1, 4))
            with generator:
                while not (state := await site.state(batch_id)).is_final:
                    if generator.exit_code is not None:
                        generator.launch()
                    await asyncio.sleep(0.05)
                    # Each outcome of another slot lets the count of barren claims begin anew.
                    assert len(killed) < 16
        failed = await site.events(batch_id, slices.SampleFailed)
        trials = await site.events(batch_id, slices.SlotOnTrial)
        outcomes = await site.outcomes(batch_id)
    assert (state.state, state.counts.generated, state.counts.failed) == ("completed", 7, 1)
    assert [(event.slot, event.category) for event in failed] == [(deadly, "server")]
    assert "nodes died" in failed[0].message
    assert trials[-1].slot == deadly
    assert outcomes == dict.fromkeys(range(8), 1)


async def test_a_slot_at_which_the_work_breaks_off_each_time_fails_alone(
    tmp_path: Path, serve_direct: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect that one answer brings out; the node lives on and says that it dropped the slice."""

    def broken(recipe: Any, cell: Any, text: str, *more: Any) -> Any:
        if "deadly" in text:
            raise RuntimeError("a defect")
        return validate(recipe, cell, text, *more)

    def answer(request: Request) -> Answer:
        return Ok("deadly") if request.body["seed"] in seeds else sample(request)

    monkeypatch.setattr(slot_work, "validate", broken)
    seeds: set[int] = set()
    async with running_log(tmp_path, lease_s=1.0) as log, ScriptedLLM(answer) as llm:
        site = Site(log, serve_direct)
        batch_id = await site.begin(llm.base_url, 4, slice_size=4, concurrency=64)
        spec = (await site.state(batch_id)).spec
        seeds.update(attempt_seed(spec, 2, number) for number in range(1, 4))
        async with site.generator():
            state = await site.ended(batch_id)
        (failed,) = await site.events(batch_id, slices.SampleFailed)
        claims = await site.events(batch_id, slices.SliceClaimed)
    assert (state.counts.generated, state.counts.failed, failed.slot) == (3, 1, 2)
    assert "broke off" in failed.message
    assert {claim.holder_lives for claim in claims} == {None}
    assert state.counts.unconfirmed_calls >= len(claims) - 1
