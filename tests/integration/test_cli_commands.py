"""The commands of `millstream batch` on a running system, as a person types them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from millstream.testing.batches import Batches
from millstream.testing.stack import Stack

UNKNOWN = "batch_1111111111_00000000"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack.start() as running:
        yield running


@pytest.fixture
def batches(stack: Stack) -> Batches:
    return Batches(stack.url)


class Typed:
    """What a person types, and what comes back."""

    def __init__(self, url: str) -> None:
        self._environment = {**os.environ, "MILLSTREAM_URL": url}

    def __call__(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-P", "-m", "millstream.cli", "batch", *words],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def json(self, *words: str) -> dict[str, Any]:
        """Return the one document that a command prints."""
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert isinstance(document, dict)
        return document

    def refused(self, *words: str) -> str:
        """Return the one line with which a command is refused."""
        done = self(*words)
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1
        return done.stderr


@pytest.fixture
def typed(stack: Stack) -> Typed:
    return Typed(stack.url)


def test_a_batch_is_paused_moved_up_resumed_and_drained(typed: Typed, batches: Batches) -> None:
    words = ("--count", "900", "--model", "simulated/slow", "--priority", "low")
    batch_id = typed("start", *words, "--max-tokens", "1000000").stdout.strip()
    assert batches.view(batch_id)["budgets"]["max_tokens"] == 1_000_000
    assert typed("pause", batch_id, "--reason", "night").stdout.startswith(f"{batch_id} paused")
    moved = typed("priority", batch_id, "high").stdout
    assert moved.endswith("priority high\n")
    resumed = typed.json("resume", batch_id)["batches"][0]
    assert (resumed["state"] in {"queued", "running"}, resumed["priority"]) == (True, "high")
    shown = typed("show", batch_id).stdout
    assert "priority       high" in shown
    assert "1,000,000 tokens" in shown
    stopped = typed.json("stop", batch_id, "--drain", "--grace", "20", "--reason", "enough")
    assert [one["state"] for one in stopped["batches"]] == ["stopped"]
    refused = typed.refused("pause", batch_id)
    assert f"batch {batch_id} is stopped and can't be paused" in refused


def test_what_a_batch_left_is_made_by_a_child_and_a_clone_starts_anew(
    typed: Typed, batches: Batches
) -> None:
    batch_id = batches.start(600, "simulated/slow", concurrency=4)
    batches.wait(batch_id, "running")
    assert typed("stop", batch_id).returncode == 0
    left = 600 - batches.view(batch_id)["counts"]["generated"]
    assert "no slot of it failed" in typed.refused("retry-failed", batch_id)
    child_id = typed("continue", batch_id, "--model", "simulated/instant").stdout.strip()
    assert typed("watch", child_id).returncode == 0
    child = batches.view(child_id)
    assert (child["counts"]["generated"], child["parent_id"]) == (left, batch_id)
    assert f"{child_id} makes what it left" in typed.refused("continue", batch_id)
    assert f"child of       {batch_id}" in typed("show", child_id).stdout
    words = ("--count", "8", "--model", "simulated/instant", "--topic", "balance", "--seed", "3")
    clone = typed.json("clone", batch_id, *words)["batch"]
    assert (clone["target"], clone["seed"], clone["parent_id"]) == (8, 3, None)
    assert typed("watch", clone["id"]).returncode == 0


def test_a_batch_of_a_pool_tells_it_and_its_child_may_go_to_another(
    stack: Stack, typed: Typed, batches: Batches
) -> None:
    made = subprocess.run(
        [sys.executable, "-P", "-m", "millstream.cli", "admin", "init", "--pool", "gpu"],
        env={**os.environ, "MILLSTREAM_NATS_URL": stack.nats_url},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    batch_id = typed("start", "--count", "4", "--pool", "gpu").stdout.strip()
    assert "pool           gpu" in typed("show", batch_id).stdout
    batches.stop(batch_id)
    batches.wait(batch_id, "stopped")
    child = typed.json("continue", batch_id, "--pool", "default", "--model", "simulated/instant")
    assert batches.wait(child["batch"]["id"], "completed")["pool"] == "default"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "../../etc"), 'ID "../../etc" is not a batch\'s'),
        (("pause", ".."), 'ID ".." is not a batch\'s'),
        (("resume", UNKNOWN), f"batch {UNKNOWN} does not exist"),
        (("continue", UNKNOWN), f"batch {UNKNOWN} does not exist"),
        (("clone", UNKNOWN, "--count", "5"), f"batch {UNKNOWN} does not exist"),
        (("priority", UNKNOWN, "low"), f"batch {UNKNOWN} does not exist"),
        (("start", "--count", "5", "--topic", "Soup"), "topic 'Soup'"),
    ],
)
def test_a_refusal_is_one_line(typed: Typed, words: tuple[str, ...], said: str) -> None:
    assert said in typed.refused(*words)
