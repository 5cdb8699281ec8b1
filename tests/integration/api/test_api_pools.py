"""A batch's pool: named at its start, kept by what follows it, served by its generators alone."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from millstream.eventlog.answers import Answers
from millstream.eventlog.topology import ensure_work_consumers
from millstream.runtime.settings import Settings
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import running_log
from millstream.testing.site import Site
from millstream_generator.lanes import Lanes
from millstream_generator.service import main
from millstream_generator.simulated.server import SimulatedServer
from millstream_schemas.slices import SliceClaimed

pytestmark = pytest.mark.anyio


async def make_pool(api: Any, name: str) -> None:
    """Make a pool's lines, as `millstream admin init --pool` does."""
    settings = api.log.settings.model_copy(update={"pool": name})
    await ensure_work_consumers(Answers(api.log.event_log.connection), settings)


async def generate(settings: Settings, stop: asyncio.Event) -> None:
    """Work as a generator that gives no memory back: that would take most of the test's time."""
    lanes = Lanes(settings, settle=lambda: None)
    try:
        await main(settings, lanes, stop)
    finally:
        await lanes.close()


async def start(api: Any, **fields: Any) -> Any:
    return await api.client.post("/v1/batches", json={"target": 10, **fields})


@pytest.fixture
async def models() -> AsyncIterator[str]:
    """The address of a server of simulated models."""
    server = SimulatedServer()
    try:
        yield await server.start("127.0.0.1", 0)
    finally:
        await server.stop()


async def test_each_batch_is_made_by_the_generators_of_its_pool_alone(
    tmp_path: Path, make_api: Any, models: str
) -> None:
    async with (
        running_log(tmp_path) as log,
        make_api(log, projector=False, simulated_url=models) as api,
    ):
        await make_pool(api, "gpu")
        made = [(await start(api, pool=pool)).json()["batch"] for pool in (None, "gpu")]
        assert [batch["pool"] for batch in made] == ["default", "gpu"]
        site = Site(log, generate)
        async with (
            site.generator("of-default", simulated_url=models),
            site.generator("of-gpu", pool="gpu", simulated_url=models),
        ):
            for batch in made:
                assert (await site.ended(batch["id"])).counts.generated == 10
        for batch in made:
            claims = await site.events(batch["id"], SliceClaimed)
            assert {claim.after.node for claim in claims} == {f"of-{batch['pool']}"}


async def test_what_follows_a_batch_stays_in_its_pool_unless_told_otherwise(lone_api: Any) -> None:
    await make_pool(lone_api, "gpu")
    ended = Script(spec=example_spec(8, pool="gpu"))
    ended.start()
    ended.claim(0)
    ended.stop()
    await lone_api.append(ended.tape.entries)
    path = f"/v1/batches/{ended.batch_id}"

    async def follow(command: str, **overrides: Any) -> str:
        answer = await lone_api.client.post(f"{path}/{command}", json={"overrides": overrides})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["batch"]["pool"])

    assert await follow("clone") == "gpu"
    assert await follow("clone", pool="default") == "default"
    assert await follow("continue", pool=None) == "gpu"


async def test_a_pool_that_does_not_exist_is_refused_with_those_that_do(lone_api: Any) -> None:
    await make_pool(lone_api, "gpu")
    existing = await lone_api.start()
    named = {"pool": "gpus"}
    for path, body in (
        ("/v1/batches", {"target": 1, **named}),
        (f"/v1/batches/{existing}/clone", {"overrides": named}),
    ):
        refused = await lone_api.client.post(path, json=body)
        assert refused.status_code == 422, refused.text
        error = refused.json()["errors"][0]
        assert (error["field"], error["value"]) == ("pool", "gpus")
        assert "those there are: default, gpu." in error["message"]
        assert "`millstream admin init --pool gpus`" in error["message"]


@pytest.mark.parametrize("pool", ["", "GPU", "a.b", "a b", "x" * 33, "*", "gpu\n.", 7])
async def test_what_is_no_name_of_a_pool_is_refused(lone_api: Any, pool: object) -> None:
    refused = await start(lone_api, pool=pool)
    assert refused.status_code == 422, refused.text
    assert refused.json()["errors"][0]["field"] == "pool"
    assert "take 1 to 32 of a-z, 0-9 and -" in refused.json()["detail"]
