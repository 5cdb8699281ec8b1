"""Events that are older than the ring, read from the stream at a client's own pace.

Batched direct get: stateless, so nothing is left behind on the server when a client goes, and any
replica answers. What is missing is told: an erased message by its stand-in, a lost one by a gap.
"""

import asyncio
from collections.abc import Iterator

from millstream.eventlog.log import EventLog
from millstream.eventlog.redaction import Redactions
from millstream.eventlog.stored import Stored
from millstream_api.relay.ring import Entry, Wish
from millstream_schemas import subjects

PAGE = 256
PAGE_BYTES = 262_144
"""What one client that is behind holds in memory at most, but for a single larger event."""
READS_AT_ONCE = 8


class Replay:
    """Reads pages for all clients of this process, some at a time."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self._redactions = Redactions(event_log)
        self._refreshing = asyncio.Lock()
        self._room = asyncio.Semaphore(READS_AT_ONCE)
        self.events_read = 0

    async def read(self, after: int, until: int, wish: Wish) -> tuple[list[Entry], int]:
        """Return the next entries after ``after``, and the sequence up to which they tell all.

        ``until`` is a sequence that the log is known to have; reading does not go beyond it.

        Raises:
            LogUnavailableError: the log does not answer.
        """
        async with self._room:
            page = await self._page(wish.subject_filter, after, until)
            reached = page[-1].sequence if page else until
            self.events_read += len(page)
            found = [Entry.of(stored) for stored in page]
            if wish.subject_filter == subjects.ALL_EVENTS:
                missing = list(_holes(page, after, reached))
            else:
                missing = await self._missing(page, after, reached)
            for first, last in missing:
                found += await self._filling(first, last)
        found.sort(key=lambda entry: entry.first)
        return found, reached

    async def _page(self, subject_filter: str, after: int, until: int) -> list[Stored]:
        page, _ = await self._log.page(
            subject_filter, after=after, most=PAGE, most_bytes=PAGE_BYTES
        )
        page = [stored for stored in page if stored.sequence <= until]
        if not page:
            # A follower may lag behind: the leader has the last word on what comes next.
            newer = await self._log.after(subject_filter, after)
            if newer is not None and newer.sequence <= until:
                return [newer]
        return page

    async def _missing(self, page: list[Stored], after: int, reached: int) -> list[tuple[int, int]]:
        """Return what the stream lacks there: a filtered read can't tell it from its own holes."""
        head = await self._log.head()
        found = [(after + 1, min(reached, head.first - 1))] if head.first > after + 1 else []
        present = {stored.sequence for stored in page}  # deleted since it was read
        deleted = (number for number in await self._log.deleted() if after < number <= reached)
        for number in sorted(set(deleted) - present):
            if found and found[-1][1] == number - 1:
                found[-1] = (found[-1][0], number)
            else:
                found.append((number, number))
        return found

    async def _filling(self, first: int, last: int) -> list[Entry]:
        """Return what stands for ``first`` to ``last``: stand-ins, and gaps between them."""
        async with self._refreshing:
            stand_ins = await self._redactions.missing(first, last)
        found: list[Entry] = []
        for made in stand_ins:
            if made.sequence > first:
                found.append(Entry.lost(first, made.sequence - 1))
            found.append(Entry.of(made))
            first = made.sequence + 1
        if first <= last:
            found.append(Entry.lost(first, last))
        return found


def _holes(page: list[Stored], after: int, reached: int) -> Iterator[tuple[int, int]]:
    for stored in page:
        if stored.sequence > after + 1:
            yield after + 1, stored.sequence - 1
        after = stored.sequence
    if after < reached:
        yield after + 1, reached
