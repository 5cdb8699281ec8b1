"""Processes are killed, frozen and started again; the log must hold each sample exactly once."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
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
FROZEN_S = 40.0


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


@dataclass(frozen=True, slots=True)
class Frozen:
    """A system whose first generator was frozen in mid-batch."""

    stack: Stack
    batch_id: str
    at_s: float

    def wake(self) -> None:
        """Let the generator go on, after 40 s at least."""
        wait_until(lambda: boot_seconds() - self.at_s >= FROZEN_S, BOUND_S)
        self.stack.thaw("generator-1")


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[dict[str, Frozen]]:
    """Systems of one generator and of two; both freezes last while the other tests run."""
    with (
        Stack.start(env=SHORT_LEASE) as one,
        Stack.start(env=SHORT_LEASE, generators=2) as two,
    ):
        found = {}
        for name, stack in (("lone", one), ("with another", two)):
            batch_id = start(stack, 400, concurrency=16)
            stack.wait_until(lambda on=stack, of=batch_id: generated(on, of) >= 50, BOUND_S)
            stack.freeze("generator-1")
            found[name] = Frozen(stack, batch_id, boot_seconds())
        yield found


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


def test_a_frozen_generator_that_wakes_writes_nothing_twice(frozen: dict[str, Frozen]) -> None:
    """SIGSTOP for 40 s, far longer than the lease; a second generator takes over meanwhile."""
    found = frozen["with another"]
    stack, batch_id = found.stack, found.batch_id
    taken_over = wait_final(stack, batch_id)
    found.wake()
    other = start(stack, 50)
    assert_whole(wait_final(stack, other), 50)
    assert_whole(taken_over, 400)
    assert_whole(asyncio.run(audit_batch(stack.nats_url, batch_id)), 400)


def test_a_lone_generator_frozen_for_forty_seconds_goes_on_after_it_wakes(
    frozen: dict[str, Frozen],
) -> None:
    found = frozen["lone"]
    assert view(found.stack, found.batch_id)["state"] not in FINAL
    found.wake()
    assert_whole(wait_final(found.stack, found.batch_id), 400)
