"""How full the event store is: new calls stop before it is, so that every answer still fits."""

import asyncio
import contextlib
from collections.abc import Iterator

import structlog

from millstream.errors import LogError
from millstream.eventlog.log import EventLog
from millstream.eventlog.reserve import Fill

log = structlog.get_logger()

OUTCOME_BYTES = 4096
"""What a call may write, as a rule at most."""
LOOK_S = 2.0
NEAR_LOOK_S = 0.25
NEAR_CALLS = 20_000
"""Where there is no room for so many calls, it is looked up more often."""
_UNKNOWN = Fill(0, 0)


class Fullness:
    """How much of its bound the event store uses, looked up every two seconds, more often near it.

    Between two looks it counts what the calls of this process may write.
    """

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self._fill = _UNKNOWN
        self._open = 0
        self._written = 0
        """Calls that were open at the last look, or have begun since: what they write may come."""
        self._refused = 0
        self._was_full = False

    @property
    def has_room(self) -> bool:
        """Whether a call may start now."""
        return not self._is_full and self._fits(self._written + 1)

    @property
    def _is_full(self) -> bool:
        return self._refused > 0 or not self._fits(1)

    def _fits(self, calls: int) -> bool:
        return self._fill.fits(calls * OUTCOME_BYTES, self._fill.kept)

    @property
    def note(self) -> str | None:
        """Why no call starts, in words; None while there is room."""
        if not self._is_full:
            return None
        return (
            f"the event store is {self._fill.share:.0%} full, so no call starts: raise "
            "MILLSTREAM_MAX_BYTES or free disk space where NATS keeps it"
        )

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Count a call that may write, until what it writes is stored."""
        self._open += 1
        self._written += 1
        try:
            yield
        finally:
            self._open -= 1

    @contextlib.contextmanager
    def refused(self) -> Iterator[None]:
        """Let no call start while somebody waits who was refused for want of room."""
        self._refused += 1
        self._tell()
        try:
            yield
        finally:
            self._refused -= 1
            self._tell()

    async def watch(self, stop: asyncio.Event) -> None:
        """Keep up to date until ``stop``; an outage of the log changes nothing."""
        while not stop.is_set():
            await self.look()
            is_near = not self._fits(NEAR_CALLS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(NEAR_LOOK_S if is_near else LOOK_S):
                    await stop.wait()

    async def look(self) -> None:
        """Find out now; without an answer nothing changes."""
        begun = self._written - self._open
        try:
            self._fill = await self._log.fill()
        except LogError as error:
            log.debug("store.unknown", reason=str(error))
            return
        self._written -= begun  # of calls that had ended before, all is in what was found
        self._tell()

    def _tell(self) -> None:
        was_full, self._was_full = self._was_full, self._is_full
        share = round(self._fill.share, 3)
        if self._is_full and not was_full:
            log.error("store.nearly_full", share=share, reason=self.note)
        elif was_full and not self._is_full:
            log.info("store.has_room", share=share)
