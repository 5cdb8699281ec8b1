"""What the log tells of a slot's attempts and the read model does not keep: waits, addresses."""

from contextlib import aclosing

import orjson

from millstream.addresses import addresses_of
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import decode
from millstream_schemas import subjects
from millstream_schemas.analysis import SlotAttempts
from millstream_schemas.control import BatchStarted


async def with_log(event_log: EventLog, found: SlotAttempts) -> SlotAttempts:
    """Return the attempts with the waits that their events tell, and with their addresses.

    Raises:
        LogUnavailableError: the log does not answer.
    """
    if not found.attempts:
        return found
    waits = await _waits(event_log, found)
    is_routed = any(one.route is not None for one in found.attempts)
    addresses = await _addresses(event_log, found.batch_id) if is_routed else {}
    attempts = tuple(
        one.model_copy(
            update={
                "wait_s": waits.get(one.sequence),
                "address": addresses.get(one.route or ""),
            }
        )
        for one in found.attempts
    )
    return found.model_copy(update={"attempts": attempts})


async def _waits(event_log: EventLog, found: SlotAttempts) -> dict[int, float | None]:
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
    return waits


async def _addresses(event_log: EventLog, batch_id: str) -> dict[str, str | None]:
    """Return where the routes lead that the batch pinned at its start, by their keys."""
    stored = await event_log.after(subjects.control(batch_id), 0)
    begun = None if stored is None else decode(stored)
    if begun is None or not isinstance(begun.event, BatchStarted):
        return {}
    return addresses_of(begun.event.spec.routes)
