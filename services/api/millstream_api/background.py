"""Work that goes on after an answer was given; it fails alone and is logged."""

import asyncio
from collections.abc import Coroutine

import structlog

from millstream.errors import MillstreamError

log = structlog.get_logger()


class Background:
    """Runs coroutines in the service's task group, so that none outlives the service."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Run ``work``; an error of ours is logged, any other one ends the service."""
        task = self._tasks.create_task(_logged(name, work), name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def cancel(self) -> None:
        """Cancel what still runs: the service ends, and any other process can go on with it."""
        for task in self._running:
            task.cancel()


async def _logged(name: str, work: Coroutine[None, None, None]) -> None:
    try:
        await work
    except MillstreamError as error:
        log.warning("background.failed", task=name, reason=str(error))
