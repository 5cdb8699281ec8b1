"""A stop ends a batch as stopped, whoever is alive, and nothing counts after it."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from millstream.testing.audit import BatchAudit, audit_batch
from millstream.testing.stack import Stack
from millstream.testing.waiting import BOUND_S

pytestmark = pytest.mark.fault


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack.start(env={"MILLSTREAM_LEASE_S": "2"}, generators=2) as running:
        yield running


def start(stack: Stack, target: int, model: str) -> str:
    body = {"target": target, "model": model, "concurrency": 16}
    response = httpx.post(f"{stack.url}/v1/batches", json=body, timeout=10)
    assert response.status_code == 201, response.text
    return str(response.json()["batch"]["id"])


def view(stack: Stack, batch_id: str) -> dict[str, Any]:
    return dict(httpx.get(f"{stack.url}/v1/batches/{batch_id}", timeout=10).json()["batch"])


def stop(stack: Stack, batch_id: str) -> BatchAudit:
    response = httpx.post(f"{stack.url}/v1/batches/{batch_id}/stop", json={}, timeout=10)
    assert response.status_code == 202, response.text
    stack.wait_until(
        lambda: view(stack, batch_id)["state"] == "stopped", BOUND_S, "a stopped batch"
    )
    return asyncio.run(audit_batch(stack.nats_url, batch_id))


def assert_stopped(audit: BatchAudit) -> None:
    assert audit.state.state == "stopped"
    assert audit.faults() == []
    counts = audit.state.counts
    assert counts.generated + counts.failed + counts.abandoned + counts.pending == (
        audit.state.spec.target
    )


@pytest.mark.parametrize("model", ["simulated/fast", "simulated/slow", "simulated/stall"])
def test_a_running_batch_is_stopped_and_its_calls_are_cancelled(stack: Stack, model: str) -> None:
    simulated = stack.state()["processes"]["simulated"]["url"]
    batch_id = start(stack, 1000, model)
    stack.wait_until(
        lambda: httpx.get(f"{simulated}/stats", timeout=5).json()["in_flight"] > 0, BOUND_S
    )
    assert_stopped(stop(stack, batch_id))
    stack.wait_until(
        lambda: httpx.get(f"{simulated}/stats", timeout=5).json()["in_flight"] == 0, BOUND_S
    )


def test_a_batch_is_stopped_though_every_generator_is_frozen(stack: Stack) -> None:
    """The frozen nodes wake to closed slices: nothing they hold counts any more."""
    batch_id = start(stack, 1000, "simulated/slow")
    stack.wait_until(lambda: view(stack, batch_id)["state"] == "running", BOUND_S)
    names = ("generator-1", "generator-2")
    for name in names:
        stack.freeze(name)
    audit = stop(stack, batch_id)
    for name in names:
        stack.thaw(name)
    assert_stopped(audit)
    other = start(stack, 20, "simulated/fast")
    stack.wait_until(lambda: view(stack, other)["state"] == "completed", BOUND_S)
    assert_stopped(asyncio.run(audit_batch(stack.nats_url, batch_id)))


def test_a_batch_is_stopped_while_the_generators_are_dead(stack: Stack) -> None:
    batch_id = start(stack, 1000, "simulated/slow")
    stack.wait_until(lambda: view(stack, batch_id)["state"] == "running", BOUND_S)
    for name in ("generator-1", "generator-2"):
        stack.kill(name)
    assert_stopped(stop(stack, batch_id))
