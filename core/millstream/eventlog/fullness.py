"""How full the event store is: new calls stop before it is, so that every answer still fits."""

import asyncio
import contextlib

import structlog

from millstream.errors import LogError
from millstream.eventlog.log import EventLog

log = structlog.get_logger()

FULL_SHARE = 0.95
"""Beyond it no call starts: control events and the answers on their way need the rest."""
LOOK_S = 2.0


class Fullness:
    """What share of its bound the event store uses, looked up every two seconds.

    ``has_room`` tells whether calls may start; ``share`` is 0..1.
    """

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self.has_room = True
        self.share = 0.0

    @property
    def note(self) -> str | None:
        """Why no call starts, in words; None while there is room."""
        if self.has_room:
            return None
        return (
            f"the event store is {self.share:.0%} full, so no call starts: raise "
            "MILLSTREAM_MAX_BYTES or free disk space where NATS keeps it"
        )

    async def watch(self, stop: asyncio.Event) -> None:
        """Keep ``share`` up to date until ``stop``; an outage of the log changes nothing."""
        while not stop.is_set():
            await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await stop.wait()

    async def look(self) -> None:
        """Find out now; without an answer nothing changes."""
        try:
            share = await self._log.used_share()
        except LogError as error:
            log.debug("store.unknown", reason=str(error))
            return
        had_room = self.has_room
        self.share, self.has_room = share, share < FULL_SHARE
        if had_room and not self.has_room:
            log.error("store.nearly_full", share=round(share, 3), reason=self.note)
        elif self.has_room and not had_room:
            log.info("store.has_room", share=round(share, 3))
