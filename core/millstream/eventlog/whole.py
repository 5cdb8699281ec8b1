"""Reading the log from end to end, by the quickest way that the NATS user may take."""

import contextlib
from collections.abc import AsyncGenerator

import structlog

from millstream.errors import LogRefusedError
from millstream.eventlog.log import EventLog
from millstream.eventlog.pull import pull
from millstream.eventlog.redaction import Redactions, filled
from millstream.eventlog.stored import Stored
from millstream_schemas import subjects

log = structlog.get_logger()

QUIET_MOST = 3


async def read_range(
    event_log: EventLog,
    *,
    after: int,
    until: int,
    name: str,
    redactions: Redactions | None = None,
) -> AsyncGenerator[list[Stored], None]:
    """Yield every event after ``after`` up to ``until``, in order; use under ``aclosing``.

    An erased message comes as the stand-in of its redaction. Any other sequence that the stream
    does not hold is left out: whoever reads must look for gaps. Users that may make no consumer
    read by direct get, which takes about three times as long.

    Raises:
        LogUnavailableError: the log does not answer.
    """
    known = redactions or Redactions(event_log)
    stored = filled(_stored(event_log, after, until, name), known, after=after)
    async with contextlib.aclosing(stored) as feed:
        async for chunk in feed:
            after = chunk[-1].sequence
            yield chunk
    rest: list[Stored] = [*await known.missing(after + 1, until)] if after < until else []
    if rest:
        yield rest


async def _stored(
    event_log: EventLog, after: int, until: int, name: str
) -> AsyncGenerator[list[Stored], None]:
    if after >= until:
        return
    try:
        async with contextlib.aclosing(_by_consumer(event_log, after, until, name)) as feed:
            async for chunk in feed:
                after = chunk[-1].sequence
                yield chunk
    except LogRefusedError as error:
        log.info("consumer.refused", name=name, reason=str(error))
        async with contextlib.aclosing(
            event_log.history(subjects.ALL_EVENTS, after=after, until=until)
        ) as pages:
            async for page in pages:
                yield page


async def _by_consumer(
    event_log: EventLog, after: int, until: int, name: str
) -> AsyncGenerator[list[Stored], None]:
    quiet = 0
    async with contextlib.aclosing(pull(event_log.connection, after=after, name=name)) as feed:
        async for chunk in feed:
            quiet = 0 if chunk else quiet + 1
            wanted = [stored for stored in chunk if stored.sequence <= until]
            if wanted:
                yield wanted
            if chunk and chunk[-1].sequence >= until:
                return
            if quiet >= QUIET_MOST:
                # The reader waits out an outage in silence too: only one that answers has ended.
                await event_log.head()
                return
