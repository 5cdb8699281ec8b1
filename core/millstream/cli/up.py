"""`millstream up`: everything on one machine, supervised until a signal."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from millstream.cli.child import Child, ChildSpec, write_line
from millstream.cli.guard import Guard
from millstream.cli.lock import DirectoryLock
from millstream.cli.model_choice import ModelChoice, check_model, choose_model, fall_back
from millstream.cli.plan import Plan
from millstream.cli.probes import check_port
from millstream.cli.statefile import await_leftovers, process_entry, remove_state, write_state
from millstream.errors import MillstreamError, ServerError
from millstream.eventlog.server import free_port
from millstream.runtime.access import access_token, tls_files, trusted_proxies
from millstream.runtime.clock import boot_seconds
from millstream.runtime.settings import Settings, load_settings

STOP_BOUND_S = 5.0
REAP_BOUND_S = 2.0


def run_up(
    *, host: str | None, port: int | None, data: Path | None, model: str, generators: int
) -> int:
    """Run Millstream until SIGINT, SIGTERM or SIGHUP; returns the exit code.

    Raises:
        UsageError: the data directory or the port is taken, or there is no such model; nothing
            was started.
        SettingsError: a setting is wrong, or others could reach the API without a token.
    """
    began = boot_seconds()
    settings = load_settings(host=host, port=port, data_dir=data)
    access_token(settings)
    tls_files(settings)
    trusted_proxies(settings)
    check_model(model, settings)
    if settings.port == 0:
        settings = settings.model_copy(update={"port": free_port()})
    settings = settings.model_copy(update={"data_dir": settings.data_dir.absolute()})
    lock = DirectoryLock(settings.data_dir)
    lock.acquire()
    try:
        check_port(settings.host, settings.port)
        await_leftovers(settings.data_dir)
        return asyncio.run(Supervisor(settings, model, generators, began).run())
    finally:
        lock.release()


class Supervisor:
    """Starts the children tier by tier, keeps them alive, and stops them in reverse order."""

    def __init__(self, settings: Settings, model: str, generators: int, began: float) -> None:
        self._settings = settings
        self._wish = model
        self._began = began
        self._guard = Guard()
        self._plan = Plan(settings, generators)
        self._tiers: list[list[Child]] = []
        self._default_model = ""
        self._is_ready = False
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Run until a signal; 0 when all ended in order, 1 when something could not start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        code = 0
        try:
            async with asyncio.TaskGroup() as tasks:
                starting = tasks.create_task(self._start(tasks), name="start")
                await self._stop.wait()
                starting.cancel()
                await self._stop_children()
        except* MillstreamError as failures:
            for failure in _leaves(failures):
                write_line(f"millstream: {failure}")
            code = 1
        finally:
            await self._clear()
        return code

    def _on_signal(self) -> None:
        if self._stop.is_set():  # asked twice: no more waiting
            for child in self._children():
                child.kill()
        self._stop.set()

    def _children(self) -> list[Child]:
        return [child for tier in self._tiers for child in tier]

    async def _start(self, tasks: asyncio.TaskGroup) -> None:
        choosing = tasks.create_task(
            choose_model(self._wish, say=self._say, guard=self._guard), name="model"
        )
        await self._add(tasks, [self._plan.nats()])[0].wait_ready()
        self._add(tasks, [self._plan.simulated()])
        self._add(tasks, [self._plan.projector()])
        choice = await self._serve_local(tasks, await choosing)
        self._default_model = choice.default_model
        environment = self._plan.environment(choice)
        self._add(tasks, self._plan.generators(environment))
        self._add(tasks, [self._plan.api(environment)])
        async with asyncio.TaskGroup() as waiting:
            for child in self._children():
                waiting.create_task(child.wait_ready())
        self._is_ready = True
        self._write_state()
        seconds = boot_seconds() - self._began
        sys.stdout.write(
            f"Millstream is ready at {self._plan.url} "
            f"(model {self._default_model}, data in {self._settings.data_dir}, {seconds:.1f} s)\n"
        )
        sys.stdout.flush()

    async def _serve_local(self, tasks: asyncio.TaskGroup, choice: ModelChoice) -> ModelChoice:
        """Start the local model if it is the choice; return what it comes to in the end."""
        if not choice.serves_local:
            return choice
        local = self._add(tasks, [self._plan.local()])[0]
        try:
            await local.wait_ready()
        except ServerError as error:
            if not choice.may_fall_back:
                raise
            await local.stop()
            self._tiers.remove([local])
            self._write_state()
            return fall_back(str(error), self._say)
        return choice

    def _add(self, tasks: asyncio.TaskGroup, specs: Sequence[ChildSpec]) -> list[Child]:
        """Start a tier of children; they stop in the reverse order of tiers."""
        tier = [
            Child(spec, self._guard, said=self._say, changed=self._write_state) for spec in specs
        ]
        self._tiers.append(tier)
        for child in tier:
            tasks.create_task(child.supervise(), name=child.spec.name)
        return tier

    async def _stop_children(self) -> None:
        """Stop the tiers in reverse order; all together have `STOP_BOUND_S`."""
        deadline = boot_seconds() + STOP_BOUND_S - 0.5
        for tier in reversed(self._tiers):
            left_s = max(0.1, deadline - boot_seconds())
            async with asyncio.TaskGroup() as stopping:
                for child in tier:
                    bound_s = min(child.spec.stop_bound_s, left_s)
                    stopping.create_task(child.stop(bound_s=bound_s))

    async def _clear(self) -> None:
        self._guard.release()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REAP_BOUND_S):
                for child in self._children():
                    await child.reap()
        remove_state(self._settings.data_dir)

    def _say(self, line: str) -> None:
        write_line(f"millstream: {line}")

    def _write_state(self) -> None:
        processes = {
            child.spec.name: process_entry(child.pid, url=child.spec.url, restarts=child.restarts)
            for child in self._children()
            if child.pid is not None
        }
        document = {
            **process_entry(os.getpid()),
            "url": self._plan.url,
            "nats_url": self._plan.nats_url,
            "model": self._default_model,
            "ready": self._is_ready,
            "guard": self._guard.pid,
            "processes": processes,
        }
        write_state(self._settings.data_dir, document)


def _leaves(group: BaseExceptionGroup[MillstreamError]) -> list[MillstreamError]:
    found: list[MillstreamError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
