"""The follower: what keeps the hub's fold up with the log."""

import asyncio
import contextlib

import structlog

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.errors import LogError, LogUnavailableError
from millstream.eventlog.follow import follow
from millstream.eventlog.live import LiveBatches
from millstream.eventlog.log import EventLog
from millstream.eventlog.redaction import Redactions, filled
from millstream.eventlog.stored import Stored, decode
from millstream_api.relay.hub import Hub
from millstream_schemas import subjects

log = structlog.get_logger()

RETRY_S = 1.0
HEAD_INTERVAL_S = 3.0
EVENTS_PER_TURN = 200


async def feed_hub(event_log: EventLog, hub: Hub) -> None:
    """Fold the log into ``hub``; never ends. An outage is waited out and loses nothing.

    ``hub.ready`` is set once everything that the stream held at the start is folded.
    """
    live = await _load(event_log, hub)
    redactions = Redactions(event_log)
    while True:
        try:
            feed = filled(follow(event_log, after=hub.sequence), redactions, after=hub.sequence)
            async with contextlib.aclosing(feed) as pages:
                async for page in pages:
                    hub.ring.add(page)
                    hub.events_folded += len(page)
                    for number, stored in enumerate(page, start=1):
                        state = (
                            live.apply(stored)
                            or hub.versions.reached(stored.sequence)
                            or _annotated(hub, stored)
                        )
                        if state is not None:
                            hub.put(state, stored.sequence)
                        if number % EVENTS_PER_TURN == 0:
                            hub.advance(stored.sequence)
                            await asyncio.sleep(0)
                    hub.advance(page[-1].sequence)
        except LogError as error:
            log.warning("feed.interrupted", after=hub.sequence, reason=str(error))
            await asyncio.sleep(RETRY_S)


def _annotated(hub: Hub, stored: Stored) -> BatchState | None:
    """Return an ended batch after a note or a redaction: which child goes on, for instance."""
    batch_id, _, kind = stored.subject.removeprefix(subjects.EVENTS_PREFIX).partition(".")
    version = hub.versions.get(batch_id) if kind in {"note", "redaction"} else None
    if version is None or not version.state.is_final:
        return None
    recorded = decode(stored)
    after = version.state if recorded is None else apply(version.state, recorded)
    return None if after is version.state else after


async def watch_stream(event_log: EventLog, hub: Hub) -> None:
    """Notice when the log is away, and when its stream was replaced; never ends otherwise.

    Raises:
        LogError: it was, so that this fold is of another stream than what comes.
    """
    await hub.ready.wait()
    seen = hub.sequence
    while True:
        await asyncio.sleep(HEAD_INTERVAL_S)
        try:
            head = await event_log.head()
        except LogUnavailableError as error:
            log.warning("head.unknown", reason=str(error))
            await hub.tell_log_away(is_away=True)
            continue
        await hub.tell_log_away(is_away=False)
        if head.epoch != hub.epoch:
            raise LogError("the event stream was replaced by another; start the API again")
        hub.due, seen = seen, head.last


async def _load(event_log: EventLog, hub: Hub) -> LiveBatches:
    """Make the cold fold; it reads to the stream's end, so the hub is ready after it."""
    while True:
        try:
            head = await event_log.head()
            live = await LiveBatches.load(event_log)
        except LogError as error:
            log.warning("feed.load_postponed", reason=str(error))
            await asyncio.sleep(RETRY_S)
        else:
            hub.restore(live.batches.values(), live.sequence, head.epoch)
            hub.ready.set()
            log.info("feed.loaded", batches=len(live.batches), sequence=live.sequence)
            return live
