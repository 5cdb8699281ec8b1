"""The supervisor's parts on real processes: children, their guard, the directory's lock."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from millstream.cli.child import Child, ChildSpec
from millstream.cli.guard import Guard
from millstream.cli.model_choice import LOCAL, SIMULATED, choose_model, fall_back
from millstream.cli.statefile import await_leftovers, process_entry, read_state, write_state
from millstream.errors import ServerError
from millstream.testing.stack import is_alive, wait_until
from millstream.testing.waiting import BOUND_S, until

pytestmark = pytest.mark.anyio


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


class Watched:
    """A child under supervision, and what was said about it."""

    def __init__(self, guard: Guard, script: str, *, is_ready: bool = True, **more: float) -> None:
        self.said: list[str] = []
        spec = ChildSpec("child", ["/bin/sh", "-c", script], yes if is_ready else no, **more)  # type: ignore[arg-type]  # the bounds in seconds
        self.child = Child(spec, guard, said=self.said.append, changed=lambda: None)


@pytest.fixture
def guard() -> Guard:
    return Guard()


async def test_a_killed_child_is_started_again_and_stops_when_told(guard: Guard) -> None:
    watched = Watched(guard, "exec sleep 600")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watched.child.supervise())
        await watched.child.wait_ready()
        first = watched.child.pid
        assert first is not None
        os.kill(first, 9)
        await until(lambda: watched.child.pid not in {None, first})
        second = watched.child.pid
        assert second is not None
        assert is_alive(second)
        await watched.child.stop()
    assert not is_alive(second)
    assert watched.said == ["child was ended by SIGKILL; starting it again in 0.2 s"]
    assert watched.child.restarts == 1
    guard.release()


async def test_pauses_double_while_it_keeps_dying(guard: Guard) -> None:
    watched = Watched(guard, "sleep 0.1; exit 3")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watched.child.supervise())
        await until(lambda: len(watched.said) == 3)
        await watched.child.stop()
    assert [line.rpartition(" in ")[2] for line in watched.said] == ["0.2 s", "0.4 s", "0.8 s"]
    guard.release()


async def test_a_child_that_never_gets_ready_is_given_up_with_its_last_words(
    guard: Guard, capfd: pytest.CaptureFixture[str]
) -> None:
    watched = Watched(guard, "echo first; echo 'no such file: x' >&2; exit 4", is_ready=False)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watched.child.supervise())
        with pytest.raises(ServerError) as failure:
            await watched.child.wait_ready()
    assert str(failure.value) == (
        "child ended with exit code 4 before it was ready: no such file: x"
    )
    assert "child        | no such file: x" in capfd.readouterr().err
    guard.release()


async def test_a_child_that_takes_too_long_is_told(guard: Guard) -> None:
    watched = Watched(guard, "exec sleep 600", is_ready=False, ready_limit_s=0.1)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watched.child.supervise())
        with pytest.raises(ServerError, match=r"not ready within 0\.1 s"):
            await watched.child.wait_ready()
        await watched.child.stop()
    guard.release()


async def test_a_child_deaf_to_sigterm_is_killed_after_its_bound(guard: Guard) -> None:
    script = "trap '' TERM; echo deaf; while :; do sleep 1; done"
    watched = Watched(guard, script, stop_bound_s=0.2)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watched.child.supervise())
        await until(lambda: "deaf" in watched.child.last_lines)
        pid = watched.child.pid
        await watched.child.stop()
    assert pid is not None
    assert not is_alive(pid)
    guard.release()


async def test_a_program_that_does_not_exist_is_an_error(guard: Guard) -> None:
    child = Child(
        ChildSpec("ghost", ["/no/such/program"], yes), guard, said=print, changed=lambda: None
    )
    with pytest.raises(ServerError, match="ghost can't be started"):
        await child.supervise()
    guard.release()


def test_the_group_dies_with_the_owner_of_the_guard() -> None:
    script = (
        "import subprocess, sys\n"
        "from millstream.cli.guard import Guard\n"
        "guard = Guard()\n"
        "child = subprocess.Popen(['sleep', '600'], process_group=guard.group())\n"
        "print(child.pid, guard.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        child, guard = map(int, owner.stdout.readline().split())
        assert is_alive(child)
        assert is_alive(guard)
        owner.kill()
        owner.wait()
    wait_until(lambda: not is_alive(child) and not is_alive(guard), BOUND_S, "the end of both")


def test_processes_that_an_earlier_run_left_are_waited_for_and_killed(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/sleep", "600"]) as left:
        write_state(tmp_path, {"processes": {"left": process_entry(left.pid)}})
        state = read_state(tmp_path)
        assert state is not None
        await_leftovers(tmp_path, limit_s=0.1)
        assert not is_alive(left.pid)


def test_a_foreign_process_with_an_old_id_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/sleep", "600"]) as foreign:
        entry = process_entry(foreign.pid) | {"born": 1.0}
        write_state(tmp_path, {"processes": {"left": entry}})
        await_leftovers(tmp_path, limit_s=0.1)
        assert foreign.poll() is None
        foreign.kill()


async def test_a_broken_setting_of_the_local_model_costs_one_warning(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLSTREAM_LOCAL_MODEL_PATH", "/no/such/file.gguf")
    said: list[str] = []
    choice = await choose_model("auto", say=said.append, guard=guard)
    guard.release()
    assert choice.default_model == SIMULATED
    assert not choice.serves_local
    assert len(said) == 1
    assert said[0].startswith("the local model is not available: ")


async def test_names_are_taken_as_they_are(guard: Guard) -> None:
    for wish, model in (("simulated", SIMULATED), ("groq/openai/gpt-oss-120b",) * 2):
        choice = await choose_model(wish, say=print, guard=guard)
        assert choice.default_model == model
        assert not choice.serves_local
    assert fall_back("why", lambda _: None).default_model == SIMULATED
    assert LOCAL.startswith("local/")
