"""Processes are killed, frozen and started again; the log must hold each sample exactly once."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import nats
import pytest

from millstream.runtime.clock import boot_seconds
from millstream.testing.audit import BatchAudit, audit_batch
from millstream.testing.stack import Stack, wait_until
from millstream.testing.waiting import BOUND_S

pytestmark = [pytest.mark.fault, pytest.mark.timeout(600)]

FINAL = {"completed", "stopped", "failed"}
SHORT_LEASE = {"MILLSTREAM_LEASE_S": "2"}


def start(stack: Stack, target: int, model: str = "simulated/fast", concurrency: int = 8) -> str:
    body = {"target": target, "model": model, "concurrency": concurrency}
    response = httpx.post(f"{stack.url}/v1/batches", json=body, timeout=10)
    assert response.status_code == 201, response.text
    return str(response.json()["batch"]["id"])


def view(stack: Stack, batch_id: str) -> dict[str, Any]:
    """Return the batch's view, empty while the server can't answer."""
    try:
        response = httpx.get(f"{stack.url}/v1/batches/{batch_id}", timeout=10)
    except httpx.TransportError:
        return {}
    return dict(response.json()["batch"]) if response.status_code == 200 else {}


def generated(stack: Stack, batch_id: str) -> int:
    found = view(stack, batch_id)
    return int(found["counts"]["generated"]) if found else -1


def wait_final(stack: Stack, batch_id: str, limit_s: float = BOUND_S) -> BatchAudit:
    stack.wait_until(
        lambda: view(stack, batch_id).get("state") in FINAL, limit_s, f"the end of {batch_id}"
    )
    return asyncio.run(audit_batch(stack.nats_url, batch_id))


def assert_whole(audit: BatchAudit, target: int) -> None:
    """Assert that a completed batch has exactly its target: none lost, none twice."""
    assert audit.faults() == []
    assert audit.lost() == []
    assert audit.state.state == "completed"
    assert len(audit.outcomes) == target


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack.start(env=SHORT_LEASE) as running:
        yield running


POINTS = ["before-queue", "first-outcome", "mid-slice", "before-completed"]


@pytest.mark.parametrize("point", POINTS)
def test_each_process_may_be_killed_at_each_point_of_a_batchs_life(
    point: str, tmp_path: Path
) -> None:
    """The generator freezes itself at the point; then one process is killed, each in turn."""
    marker = tmp_path / "reached"
    env = {**SHORT_LEASE, "MILLSTREAM_FAULT_POINT": f"{point}:freeze:{marker}"}
    with Stack.start(env=env) as stack:
        for victim in ("generator-1", "nats-server", "projector", "api", "simulated"):
            marker.unlink(missing_ok=True)
            batch_id = start(stack, 80)
            stack.wait_frozen("generator-1")
            old = stack.kill(victim)
            if victim != "generator-1":
                stack.thaw("generator-1")
            stack.wait_back(victim, old)
            assert_whole(wait_final(stack, batch_id), 80)


def test_a_generator_killed_in_mid_batch_comes_back_and_goes_on(stack: Stack) -> None:
    batch_id = start(stack, 300)
    stack.wait_until(lambda: generated(stack, batch_id) >= 50, BOUND_S)
    stack.kill("generator-1")
    assert_whole(wait_final(stack, batch_id), 300)


def test_nats_killed_twice_in_mid_batch_loses_nothing(stack: Stack) -> None:
    batch_id = start(stack, 400)
    for at in (50, 150):
        stack.wait_until(lambda at=at: generated(stack, batch_id) >= at, BOUND_S)
        stack.wait_back("nats-server", stack.kill("nats-server"))
    assert_whole(wait_final(stack, batch_id), 400)


def test_the_work_stream_deleted_in_mid_batch_heals(stack: Stack) -> None:
    async def delete_work() -> None:
        connection = await nats.connect(stack.nats_url)
        await connection.jetstream().delete_stream("MILLSTREAM_WORK")
        await connection.close()

    batch_id = start(stack, 300)
    stack.wait_until(lambda: generated(stack, batch_id) >= 30, BOUND_S)
    asyncio.run(delete_work())
    assert_whole(wait_final(stack, batch_id), 300)


def test_a_batch_goes_on_after_the_whole_of_up_was_killed_and_started_again() -> None:
    with Stack.start(env=SHORT_LEASE) as stack:
        batch_id = start(stack, 300)
        stack.wait_until(lambda: generated(stack, batch_id) >= 50, BOUND_S)
        stack.kill_all()
        stack.launch()
        assert_whole(wait_final(stack, batch_id), 300)


def test_a_frozen_generator_that_wakes_writes_nothing_twice() -> None:
    """SIGSTOP for 40 s, far longer than the lease; a second generator takes over meanwhile."""
    with Stack.start(env=SHORT_LEASE, generators=2) as stack:
        batch_id = start(stack, 400, concurrency=16)
        stack.wait_until(lambda: generated(stack, batch_id) >= 50, BOUND_S)
        stack.freeze("generator-1")
        frozen_at = boot_seconds()
        taken_over = wait_final(stack, batch_id)
        wait_until(lambda: boot_seconds() - frozen_at >= 40, 45)
        stack.thaw("generator-1")
        other = start(stack, 50)
        assert_whole(wait_final(stack, other), 50)
        assert_whole(taken_over, 400)
        assert_whole(asyncio.run(audit_batch(stack.nats_url, batch_id)), 400)


def test_a_lone_generator_frozen_for_forty_seconds_goes_on_after_it_wakes(stack: Stack) -> None:
    batch_id = start(stack, 200)
    stack.wait_until(lambda: generated(stack, batch_id) >= 30, BOUND_S)
    stack.freeze("generator-1")
    frozen_at = boot_seconds()
    wait_until(lambda: boot_seconds() - frozen_at >= 40, 45)
    stack.thaw("generator-1")
    assert_whole(wait_final(stack, batch_id), 200)
