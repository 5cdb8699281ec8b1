"""Running a service until a signal, and ending it within a bound."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import structlog
import uvloop

from millstream.errors import MillstreamError, SettingsError
from millstream.runtime.logs import configure_logs
from millstream.runtime.settings import Settings, load_settings

log = structlog.get_logger()

Main = Callable[[Settings, asyncio.Event], Awaitable[None]]

STOP_BOUND_S = 5.0


def start_service(service: str, main: Main) -> int:
    """Run a service with the settings of its environment; returns the exit code."""
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.stderr.write(f"millstream {service}: {error}\n")
        return 1
    return run_service(service, main, settings)


def run_service(service: str, main: Main, settings: Settings) -> int:
    """Run ``main(settings, stop)``; SIGTERM or SIGINT sets ``stop``. Returns the exit code.

    A service that has not ended ``STOP_BOUND_S`` after the signal is cancelled.
    """
    configure_logs(settings, service)
    code = 0
    try:
        uvloop.run(_supervise(service, main, settings))
    except* MillstreamError as group:
        for error in _leaves(group):
            log.error("service.failed", reason=str(error))  # noqa: TRY400  # expected, no trace
            sys.stderr.write(f"millstream {service}: {error}\n")
        code = 1
    return code


def _leaves(group: BaseExceptionGroup[MillstreamError]) -> Iterator[MillstreamError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _supervise(service: str, main: Main, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(_run(main, settings, stop), name=service)
        watch = tasks.create_task(_bound(stop, work))
        work.add_done_callback(lambda _: watch.cancel())
    log.info("service.stopped")


async def _run(main: Main, settings: Settings, stop: asyncio.Event) -> None:
    try:
        await main(settings, stop)
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
        log.warning("service.cut_off", bound_s=STOP_BOUND_S)


async def _bound(stop: asyncio.Event, work: asyncio.Task[None]) -> None:
    await stop.wait()
    await asyncio.sleep(STOP_BOUND_S - 0.5)
    work.cancel()


def fault_point(settings: Settings, place: str) -> None:
    """Kill or freeze this process, once, when the settings name this place; for tests.

    ``MILLSTREAM_FAULT_POINT`` is ``<place>:<kill|freeze>:<marker file>``. The marker is made
    before the signal, so that a restarted process goes on; removing it arms the point again.
    """
    if not settings.fault_point:
        return
    wanted, action, marker = settings.fault_point.split(":", 2)
    if wanted != place or Path(marker).exists():
        return
    Path(marker).touch()
    os.kill(os.getpid(), signal.SIGKILL if action == "kill" else signal.SIGSTOP)
