"""The whole system for a test: `millstream up` in a process of its own, on free ports."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil

from millstream.cli.statefile import read_state
from millstream.errors import ServerError
from millstream.testing.waiting import BOUND_S

START_LIMIT_S = 110.0
STOP_LIMIT_S = 60.0
POLL_S = 0.02
LOG_TAIL = 4000

T = TypeVar("T")


def wait_until(condition: Callable[[], T], limit_s: float, what: str = "") -> T:
    """Return the first true value of ``condition``, asked every 20 ms.

    Raises:
        TimeoutError: it stayed false for ``limit_s`` seconds.
    """
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what or 'the condition'} did not come within {limit_s:g} s")
        time.sleep(POLL_S)
    return value


class Stack:
    """One running `millstream up`; the end of its context stops it and removes its directory.

    Process names are those of ``up.json``: ``nats-server``, ``simulated``, ``local-model``,
    ``projector``, ``generator-1`` and on, ``api``; and ``up`` is the supervisor itself.
    """

    def __init__(
        self,
        *,
        env: Mapping[str, str] | None = None,
        generators: int = 1,
        model: str = "simulated",
        data_dir: Path | None = None,
    ) -> None:
        self._owns_directory = data_dir is None
        self.data_dir = data_dir or Path(tempfile.mkdtemp(prefix="millstream-"))
        self._environment = {**_clean_environment(), **(env or {})}
        self._options = ("--generators", str(generators), "--model", model)
        self._up: subprocess.Popen[bytes] | None = None
        self._frozen: set[int] = set()
        self.url = ""

    @classmethod
    def start(
        cls,
        *,
        env: Mapping[str, str] | None = None,
        generators: int = 1,
        model: str = "simulated",
        data_dir: Path | None = None,
    ) -> Self:
        """Return a stack that is ready to work.

        ``env`` is added to the environment of all its processes.

        Raises:
            ServerError: it did not become ready; the message quotes its log.
        """
        stack = cls(env=env, generators=generators, model=model, data_dir=data_dir)
        stack.launch()
        return stack

    def __enter__(self) -> Self:
        """Return the stack itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def log_file(self) -> Path:
        """What all processes wrote to stderr."""
        return self.data_dir / "up.log"

    def state(self) -> dict[str, Any]:
        """Return the present ``up.json``, empty when there is none."""
        return read_state(self.data_dir) or {}

    @property
    def nats_url(self) -> str:
        """Where NATS clients connect."""
        return str(self.state()["nats_url"])

    def pids(self) -> dict[str, int]:
        """Return the id of each living process by name, ``up`` included."""
        state = self.state()
        entries = {"up": state, **state.get("processes", {})} if state else {}
        return {name: int(entry["pid"]) for name, entry in entries.items()}

    def pid(self, name: str, limit_s: float = BOUND_S) -> int:
        """Return the id of process ``name``; one that is being started again is waited for."""
        return wait_until(lambda: self.pids().get(name), limit_s, f"process {name}") or 0

    def launch(self) -> None:
        """Start `up` on the data directory; also again, once the former one has ended.

        Raises:
            ServerError: it did not become ready; the message quotes its log.
        """
        if self._up is not None:
            self._up.wait(STOP_LIMIT_S)
        with self.log_file.open("ab") as log:
            self._up = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "millstream.cli", "up", "--port", self._port()),
                    *("--data", str(self.data_dir), *self._options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        try:
            wait_until(self._is_ready, START_LIMIT_S, "a ready `millstream up`")
        except (TimeoutError, ServerError) as error:
            self.kill_all()
            raise ServerError(f"{error}; its log ends with:\n{self.log_tail()}") from error
        self.url = str(self.state()["url"])

    def _port(self) -> str:
        return self.url.rpartition(":")[2] if self.url else "0"

    def _is_ready(self) -> bool:
        if self._up is None or self._up.poll() is not None:
            code = None if self._up is None else self._up.returncode
            raise ServerError(f"`millstream up` ended with code {code}")
        state = self.state()
        return bool(state.get("ready")) and state.get("pid") == self._up.pid

    def log_tail(self) -> str:
        """Return the end of the log."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:]

    def kill(self, name: str) -> int:
        """Kill process ``name`` as ``kill -9`` does; returns the id it had."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        self._frozen.discard(pid)
        return pid

    def wait_back(self, name: str, old_pid: int, limit_s: float = BOUND_S) -> int:
        """Return the id of the process that took the place of ``old_pid``."""
        wait_until(lambda: self.pids().get(name) not in {None, old_pid}, limit_s, f"another {name}")
        return self.pids()[name]

    def wait_frozen(self, name: str, limit_s: float = BOUND_S) -> int:
        """Wait until process ``name`` has stopped itself (SIGSTOP); returns its id.

        The marker of a fault point is made just before the signal: a SIGCONT sent between the
        two would be lost, and the process would stand still for good.
        """
        pid = self.pid(name)
        self._frozen.add(pid)
        process = psutil.Process(pid)
        self.wait_until(
            lambda: process.status() == psutil.STATUS_STOPPED, limit_s, f"the freeze of {name}"
        )
        return pid

    def freeze(self, name: str) -> int:
        """Stop process ``name`` in mid-air (SIGSTOP); returns its id."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGSTOP)
        self._frozen.add(pid)
        return pid

    def thaw(self, name: str) -> None:
        """Let a frozen process go on (SIGCONT)."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGCONT)
        self._frozen.discard(pid)

    def wait_until(self, condition: Callable[[], T], limit_s: float, what: str = "") -> T:
        """Return the first true value of ``condition``; the log's end is told when none comes.

        Raises:
            TimeoutError: it stayed false for ``limit_s`` seconds.
        """
        try:
            return wait_until(condition, limit_s, what)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; the log ends with:\n{self.log_tail()}") from error

    def kill_all(self) -> None:
        """Kill `up` itself; the guard takes its children with it. Returns when all have gone."""
        pids = self.pids()
        if self._up is not None:
            self._up.kill()
            self._up.wait()
        wait_until(lambda: not any(is_alive(pid) for pid in pids.values()), STOP_LIMIT_S)
        self._frozen.clear()

    def stop_up(self) -> int:
        """Stop `up` in order (SIGTERM); returns its exit code; the data directory stays.

        Raises:
            TimeoutError: it did not end in time; it was killed.
        """
        if self._up is None:
            return 0
        for pid in self._frozen:
            if is_alive(pid):
                os.kill(pid, signal.SIGCONT)
        self._frozen.clear()
        self._up.terminate()
        try:
            return self._up.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired as error:
            self.kill_all()
            raise TimeoutError(f"`millstream up` did not end in {STOP_LIMIT_S:g} s") from error

    def stop(self) -> None:
        """End everything and remove the data directory, if it is the stack's own."""
        if self._up is not None and self._up.poll() is None:
            self.stop_up()
        if self._owns_directory:
            shutil.rmtree(self.data_dir, ignore_errors=True)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended but was not yet waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _clean_environment() -> dict[str, str]:
    """Return this process's environment without settings of Millstream: tests name their own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
