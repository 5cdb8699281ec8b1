"""The event log as a thread that folds the past reads it: the event loop asks, the thread waits."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

from millstream.eventlog.log import EventLog
from millstream.eventlog.redaction import batch_history
from millstream.eventlog.stored import Stored
from millstream_projector.views.paging import RefusedError

BOUND_S = 4.0
"""Less than whoever asks a projector waits for its answer."""

ResultT = TypeVar("ResultT")


class PastLog(Protocol):
    """What a fold of the past asks of the event log; a thread calls it and waits."""

    def last_of(self, names: Sequence[str], until: int) -> list[Stored]:
        """Return the last message up to ``until`` of each of these subjects that has one."""
        ...

    def whole(self, batch_id: str, until: int) -> list[Stored]:
        """Return every message of a batch up to ``until``, in order."""
        ...


class WaitingLog:
    """What ``PastLog`` asks for, from the log that ``loop`` is connected to."""

    def __init__(self, event_log: EventLog, loop: asyncio.AbstractEventLoop) -> None:
        self._event_log = event_log
        self._loop = loop

    def last_of(self, names: Sequence[str], until: int) -> list[Stored]:
        """Return the last message up to ``until`` of each of these subjects that has one.

        Raises:
            LogUnavailableError: the log does not answer.
            RefusedError: it takes too long.
        """
        return self._wait(self._last_of(names, until), f"{len(names)} slices", until)

    def whole(self, batch_id: str, until: int) -> list[Stored]:
        """Return every message of a batch up to ``until``, in order; raises as ``last_of``."""
        return self._wait(self._whole(batch_id, until), f"batch_id={batch_id}", until)

    async def _last_of(self, names: Sequence[str], until: int) -> list[Stored]:
        return list((await self._event_log.last_of(names, until=until)).values())

    async def _whole(self, batch_id: str, until: int) -> list[Stored]:
        async with aclosing(batch_history(self._event_log, batch_id, until=until)) as pages:
            return [stored async for page in pages for stored in page]

    def _wait(
        self, reading: Coroutine[Any, Any, list[Stored]], what: str, until: int
    ) -> list[Stored]:
        return asyncio.run_coroutine_threadsafe(_bounded(reading, what, until), self._loop).result()


async def _bounded(reading: Coroutine[Any, Any, ResultT], what: str, until: int) -> ResultT:
    try:
        async with asyncio.timeout(BOUND_S):
            return await reading
    except TimeoutError as error:
        raise RefusedError(
            "failed",
            f"{what} at {until} had to be read from the log, which took longer than {BOUND_S:g} s;"
            f" `millstream audit show BATCH --at {until}` waits for it",
        ) from error
