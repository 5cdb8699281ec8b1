"""Refused commands in the log: appending one, and reading them back."""

import json
from collections.abc import AsyncGenerator, Callable

from millstream.errors import ConflictError, LogError
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import Stored
from millstream_schemas import subjects
from millstream_schemas.events import MalformedEventError, UnknownEventError, parse_system
from millstream_schemas.refusals import CommandRefused, RefusalPage, StoredRefusal

CONFLICTS_MOST = 5
APPEND_BOUND_S = 3.0


async def append_refusal(event_log: EventLog, event: CommandRefused, *, expected: int) -> int:
    """Append a refusal after ``expected``, or after whatever stands there; return its sequence.

    Raises:
        LogError: it is not known to be stored.
    """
    for _ in range(CONFLICTS_MOST):
        try:
            return await event_log.append(event, expected=expected, bound_s=APPEND_BOUND_S)
        except ConflictError:  # another API told of a refusal meanwhile
            last = await event_log.last(subjects.SYSTEM_COMMANDS)
            expected = last.sequence if last is not None else 0
    raise LogError("refusals of other servers kept coming first")


async def read_refusals(
    event_log: EventLog,
    *,
    after: int = 0,
    batch_id: str | None = None,
    includes: Callable[[Stored], bool] = lambda _stored: True,
) -> AsyncGenerator[StoredRefusal, None]:
    """Yield the refusals after a sequence that ``includes`` takes, all of them without it.

    With ``batch_id`` only those that named it.

    Raises:
        LogError: the log does not answer.
    """
    async for page in event_log.history(subjects.SYSTEM_COMMANDS, after=after):
        for stored in filter(includes, page):
            try:
                event = parse_system(json.loads(stored.payload))
            except (ValueError, UnknownEventError, MalformedEventError):
                continue  # of a newer version: whoever folds counts it
            if batch_id in {None, event.batch_id}:
                yield StoredRefusal(sequence=stored.sequence, event=event)


async def refusal_page(
    event_log: EventLog, *, after: int, limit: int, batch_id: str | None
) -> RefusalPage:
    """Return the first ``limit`` refusals after a sequence; raises as ``read_refusals``."""
    found: list[StoredRefusal] = []
    async for refusal in read_refusals(event_log, after=after, batch_id=batch_id):
        if len(found) == limit:
            return RefusalPage(refusals=tuple(found), next_cursor=found[-1].sequence)
        found.append(refusal)
    return RefusalPage(refusals=tuple(found))


def refusal_line(refusal: StoredRefusal) -> str:
    """Say in one line who was refused what, from where, and why."""
    event = refusal.event
    where = f" from {event.actor.address}" if event.actor.address else ""
    why = f" ({event.reason})" if event.reason else ""
    more = f", {event.repeated} times more before" if event.repeated else ""
    return (
        f"refused        {event.time:%Y-%m-%d %H:%M:%S} UTC  {event.command} by"
        f" {event.actor.kind} {event.actor.id}{where}{why}: {event.detail}"
        f" [{event.status} {event.problem}{more}]"
    )
