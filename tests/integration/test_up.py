"""`millstream up` as a user runs it: ready, supervised, alone on its directory, gone at the end."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from millstream.cli.lock import DirectoryLock
from millstream.cli.statefile import read_state
from millstream.errors import UsageError
from millstream.testing.stack import Stack, is_alive, wait_until
from millstream.testing.waiting import BOUND_S

CHILDREN = {"nats-server", "simulated", "projector", "generator-1", "api"}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack.start() as running:
        yield running


def millstream(*words: str, url: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-P", "-m", "millstream.cli", *words],
        env={**os.environ, "MILLSTREAM_URL": url} if url else None,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def start_batch(stack: Stack, count: int, *options: str) -> str:
    """Start a batch as soon as the server takes one; it may be on its way back."""
    words = ("batch", "start", "--count", str(count), *options)

    def batch_id() -> str:
        return millstream(*words, url=stack.url).stdout.strip()

    return stack.wait_until(batch_id, BOUND_S, "a server that takes batches")


def test_everything_that_is_named_in_the_state_file_runs(stack: Stack) -> None:
    assert stack.pids().keys() == CHILDREN | {"up"}
    assert all(is_alive(pid) for pid in stack.pids().values())
    assert f"Millstream is ready at {stack.url}" in stack.log_tail()


def test_a_batch_started_and_watched_on_the_command_line_is_completed(stack: Stack) -> None:
    started = millstream("batch", "start", "--count", "6", url=stack.url)
    batch_id = started.stdout.strip()
    assert started.returncode == 0, started.stderr
    watched = millstream("batch", "watch", batch_id, url=stack.url)
    assert watched.returncode == 0, watched.stderr
    assert watched.stdout.splitlines()[-1] == f"{batch_id} completed 6/6"
    samples = json.loads(millstream("batch", "samples", batch_id, "--json", url=stack.url).stdout)
    assert sorted(sample["slot"] for sample in samples["samples"]) == [0, 1, 2, 3, 4, 5]
    assert samples["total"] == 6
    words = next(iter(samples["samples"][0]["content"].values()))[:40]
    found = json.loads(millstream("batch", "search", words, "--json", url=stack.url).stdout)
    assert samples["samples"][0] in found["samples"]
    assert (found["next_cursor"], found["progress"]) == (None, 1.0)
    shown = json.loads(millstream("batch", "show", batch_id, "--json", url=stack.url).stdout)
    assert shown["batch"]["state"] == "completed"
    assert batch_id in millstream("batch", "list", "--state", "completed", url=stack.url).stdout


def test_a_batch_stopped_on_the_command_line_ends_as_stopped(stack: Stack) -> None:
    words = ("batch", "start", "--count", "500", "--model", "simulated/slow", "--json")
    batch_id = json.loads(millstream(*words, url=stack.url).stdout)["batch"]["id"]
    stopped = millstream("batch", "stop", batch_id, "--reason", "enough", url=stack.url)
    assert stopped.returncode == 0, stopped.stderr
    assert stopped.stdout.startswith(f"{batch_id} stopped ")
    again = millstream("batch", "watch", batch_id, url=stack.url)
    assert again.returncode == 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("batch", "show", "batch_1234567890_0123abcd"), "batch_1234567890_0123abcd"),
        (("batch", "watch", "nonsense"), "nonsense"),
        (("batch", "start", "--count", "5", "--recipe", "no-such"), "no-such"),
        (("batch", "start", "--count", "5", "--model", "simulated/no-such"), "no-such"),
    ],
)
def test_a_refusal_is_one_line_that_names_the_value(
    stack: Stack, words: tuple[str, ...], named: str
) -> None:
    refused = millstream(*words, url=stack.url)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert named in refused.stderr


def test_a_second_up_on_the_directory_is_refused_and_names_the_first(stack: Stack) -> None:
    refused = millstream("up", "--port", "0", "--data", str(stack.data_dir))
    assert refused.returncode == 1
    assert refused.stderr == (
        f"millstream: the data directory {stack.data_dir} is in use by another `millstream up` "
        f"(process {stack.pid('up')}); stop that one or name another directory with --data\n"
    )
    assert is_alive(stack.pid("up"))


def test_a_port_in_use_is_one_line_that_names_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = millstream("up", "--port", str(port), "--data", str(tmp_path / "data"))
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert str(port) in refused.stderr
    assert "--port" in refused.stderr


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--data"):
        DirectoryLock(tmp_path / "file" / "data").acquire()


@pytest.mark.fault
@pytest.mark.parametrize("name", sorted(CHILDREN))
def test_a_killed_child_comes_back_and_batches_are_made_again(stack: Stack, name: str) -> None:
    old = stack.kill(name)
    new = stack.wait_back(name, old)
    assert new != old
    started = start_batch(stack, 3)
    watched = millstream("batch", "watch", started, url=stack.url)
    assert watched.stdout.splitlines()[-1] == f"{started} completed 3/3", watched.stderr


@pytest.mark.fault
def test_a_watch_goes_on_after_the_api_was_killed(stack: Stack) -> None:
    batch_id = start_batch(stack, 8, "--model", "simulated/slow", "--concurrency", "2")
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "millstream.cli", "batch", "watch", batch_id],
        env={**os.environ, "MILLSTREAM_URL": stack.url},
        stdout=subprocess.PIPE,
        text=True,
    ) as watch:
        assert watch.stdout is not None
        lines = [watch.stdout.readline()]
        stack.wait_back("api", stack.kill("api"))
        lines += watch.stdout.readlines()
    assert watch.returncode == 0
    assert lines[-1] == f"{batch_id} completed 8/8\n"


@pytest.mark.fault
def test_after_a_kill_no_orphan_is_left_and_the_next_up_goes_on(stack: Stack) -> None:
    batch_id = start_batch(stack, 4)
    pids = stack.pids()
    stack.freeze("generator-1")  # a process that can do nothing for its own end
    os.kill(pids["up"], 9)
    wait_until(lambda: not any(is_alive(pid) for pid in pids.values()), BOUND_S, "the end of all")
    stack.launch()
    watched = millstream("batch", "watch", batch_id, url=stack.url)
    assert watched.stdout.splitlines()[-1] == f"{batch_id} completed 4/4", watched.stderr


@pytest.mark.fault
def test_the_guard_is_replaced_when_it_is_killed(stack: Stack) -> None:
    guard = stack.state()["guard"]
    os.kill(guard, 9)
    api = stack.kill("api")
    stack.wait_back("api", api)
    pids = stack.pids()
    assert stack.state()["guard"] != guard
    stack.kill_all()
    assert not any(is_alive(pid) for pid in pids.values())
    stack.launch()


def test_a_stop_in_order_leaves_no_process_and_no_state_file(stack: Stack) -> None:
    pids = {**stack.pids(), "guard": stack.state()["guard"]}
    assert stack.stop_up() == 0
    assert [name for name, pid in pids.items() if is_alive(pid)] == []
    assert read_state(stack.data_dir) is None


def test_a_service_without_a_log_says_so_and_ends_with_code_1(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "MILLSTREAM_NATS_URL": "nats://127.0.0.1:9",
        "MILLSTREAM_DATA_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "millstream.cli", "projector"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "nats://127.0.0.1:9" in done.stderr
