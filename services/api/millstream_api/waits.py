"""How long attempts waited for limits: the log tells it, the read model does not keep it."""

from contextlib import aclosing

import orjson

from millstream.eventlog.log import EventLog
from millstream_schemas import subjects
from millstream_schemas.analysis import SlotAttempts


async def with_waits(event_log: EventLog, found: SlotAttempts) -> SlotAttempts:
    """Return the attempts with the waits that their events tell.

    Raises:
        LogUnavailableError: the log does not answer.
    """
    if not found.attempts:
        return found
    wanted = {one.sequence for one in found.attempts}
    waits: dict[int, float | None] = {}
    pages = event_log.history(
        subjects.slice_(found.batch_id, found.slice_index),
        after=min(wanted) - 1,
        until=max(wanted),
    )
    async with aclosing(pages):
        async for page in pages:
            for stored in page:
                if stored.sequence in wanted:
                    waits[stored.sequence] = orjson.loads(stored.payload).get("wait_s")
    attempts = tuple(
        one.model_copy(update={"wait_s": waits.get(one.sequence)}) for one in found.attempts
    )
    return found.model_copy(update={"attempts": attempts})
