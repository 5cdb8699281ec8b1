"""The live feed: every event after a sequence, in order, without a gap, without a consumer.

Republished messages are quick but may be lost; a break in the sequence is filled by direct get,
and so is a possible loss at the end, once a second while it is quiet.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import structlog
from nats.aio.msg import Msg

from millstream.errors import LogUnavailableError
from millstream.eventlog.answers import subscribed
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import Stored, from_headers
from millstream_schemas import subjects

log = structlog.get_logger()

QUIET_S = 1.0
PENDING_MOST = 20_000
"""Beyond this many waiting messages the feed drops what comes and reads the stream instead."""


async def follow(
    event_log: EventLog, *, after: int, tells_quiet: bool = False
) -> AsyncGenerator[list[Stored], None]:
    """Yield all events after ``after`` as they come; never ends; use under ``aclosing``.

    Each list is contiguous with the one before. An outage of the log is waited out. With
    ``tells_quiet`` an empty list comes after each second without an event.

    Raises:
        LogUnavailableError: the connection was closed for good.
    """
    feed: asyncio.Queue[Stored] = asyncio.Queue(PENDING_MOST)

    async def take(message: Msg) -> None:
        # Full: the consumer is far behind, and the gap fill will read what is dropped here.
        with contextlib.suppress(asyncio.QueueFull):
            feed.put_nowait(from_headers(message.headers or {}, message.data))

    async with subscribed(event_log.connection, subjects.LIVE_EVENTS, take):
        must_fill = True
        while True:
            if must_fill:
                async with contextlib.aclosing(_fill(event_log, after)) as pages:
                    async for page in pages:
                        after = page[-1].sequence
                        yield page
            live = await _next(feed)
            fresh = [stored for stored in live if stored.sequence > after]
            must_fill = not live or not _is_contiguous(fresh, after)
            if fresh and not must_fill:
                after = fresh[-1].sequence
                yield fresh
            if tells_quiet and not live:
                yield []


async def _next(feed: asyncio.Queue[Stored]) -> list[Stored]:
    """Return everything that waits, at least one; empty after a quiet second."""
    try:
        async with asyncio.timeout(QUIET_S):
            items = [await feed.get()]
    except TimeoutError:
        return []
    while not feed.empty():
        items.append(feed.get_nowait())
    return items


def _is_contiguous(items: list[Stored], after: int) -> bool:
    return all(
        stored.sequence == sequence for sequence, stored in enumerate(items, start=after + 1)
    )


async def _fill(event_log: EventLog, after: int) -> AsyncGenerator[list[Stored], None]:
    """Yield what the stream holds after ``after``; ends at its end, or when it is away."""
    try:
        async with contextlib.aclosing(
            event_log.history(subjects.ALL_EVENTS, after=after)
        ) as pages:
            async for page in pages:
                yield page
    except LogUnavailableError as error:
        if event_log.connection.is_closed:
            raise
        log.warning("feed.fill_postponed", after=after, reason=str(error))
