"""A store that fills up: what makes work is refused first, and a stop still fits."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import claim, running_log
from millstream.testing.waiting import BOUND_S, POLL_S

pytestmark = pytest.mark.anyio

SIZE = 2 * 2**20
PIECE = 20_000
OTHER = "batch_1767225600_000000ff"
ENDED = "batch_1767225600_0000000a"


async def refused(api: Any, path: str, method: str = "POST", **body: Any) -> None:
    answer = await api.client.request(method, path, json=body)
    assert answer.status_code == 507, (path, answer.text)
    assert answer.json()["type"].endswith("log_full")
    assert "MILLSTREAM_MAX_BYTES" in answer.json()["detail"]


async def batch(api: Any, batch_id: str) -> Any:
    return (await api.client.get(f"/v1/batches/{batch_id}")).json()["batch"]


async def test_starts_are_refused_in_time_so_that_a_stop_of_a_running_batch_still_ends_it(
    tmp_path: Path, make_api: Callable[..., Any]
) -> None:
    async with (
        running_log(tmp_path, max_bytes=SIZE) as log,
        make_api(log, projector=False) as api,
    ):
        made = Script(batch_id=ENDED, spec=example_spec(6, slice_size=2)).run(failed=[1])
        await api.append(made.tape.entries)
        running, paused = [await api.start(target=64) for _ in range(2)]
        assert (await api.client.post(f"/v1/batches/{paused}/pause")).status_code == 202
        for index in range(32):
            await log.event_log.append(claim(index, batch_id=running), expected=0)
        index = 1000
        while (await log.event_log.fill()).share < 0.8:
            await log.event_log.append(claim(index, batch_id=OTHER, padding=PIECE), expected=0)
            index += 1
        begun = 0
        while (answer := await api.client.post("/v1/batches", json={"target": 9})).is_success:
            begun += 1
        assert begun > 0
        assert answer.status_code == 507
        assert answer.json()["detail"].startswith("the event store is 85% full")
        # What is smaller than a start would still fit: now nothing does.
        await log.event_log.append(claim(index, batch_id=OTHER, padding=PIECE), expected=0)
        await refused(api, "/v1/batches", target=10)
        await refused(api, f"/v1/batches/{running}/clone")
        await refused(api, f"/v1/batches/{ENDED}/retry-failed")
        await refused(api, f"/v1/batches/{paused}/resume")
        await refused(api, f"/v1/batches/{running}", "PATCH", priority="high")
        assert (await batch(api, ENDED))["child_id"] is None, (
            "it was not promised a child that can't be started"
        )
        assert (await api.client.post(f"/v1/batches/{running}/pause")).status_code == 202
        assert (await api.client.post(f"/v1/batches/{running}/stop")).status_code == 202
        async with asyncio.timeout(BOUND_S):
            while (await batch(api, running))["state"] != "stopped":
                await asyncio.sleep(POLL_S)
        assert (await api.client.post(f"/v1/batches/{paused}/stop")).status_code == 202
        tails = await log.event_log.tails(running)
        assert len(tails) == 32
        assert (await log.event_log.fill()).share < 0.95
