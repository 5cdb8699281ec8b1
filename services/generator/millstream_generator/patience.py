"""Bounds on waits that don't blame another side for the time in which this process stood still.

A process that goes on after SIGSTOP, or whose loop was held up, finds its timers due before it has
read what came meanwhile: its wait for input ends with EINTR, and libuv turns to the timers. Such a
timer proves nothing, so what has come is read first.
"""

import asyncio
from types import TracebackType
from typing import Self

STOOD_STILL_S = 1.0
"""A timer later than this tells that the loop stood still."""
READING_S = 1.0
"""How long what came meanwhile may take to be read."""


def look_again_at(due: float, now: float) -> float | None:
    """Return when to look again, None when a timer that was ``due`` came in time."""
    return now + READING_S if now - due > STOOD_STILL_S else None


class PatientTimeout:
    """As ``asyncio.timeout``, but for the time in which the loop stood still."""

    def __init__(self, bound_s: float) -> None:
        """Bound the block to ``bound_s`` seconds."""
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + bound_s
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        """Begin the wait."""
        await self._timeout.__aenter__()
        self._timer = self._loop.call_at(self._due, self._look)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the wait.

        Raises:
            TimeoutError: the bound has passed.
        """
        if self._timer is not None:
            self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def _look(self) -> None:
        now = self._loop.time()
        again = look_again_at(self._due, now)
        if again is None:
            self._timeout.reschedule(now)
        else:
            self._due = again
            self._timer = self._loop.call_at(again, self._look)
