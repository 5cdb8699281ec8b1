"""A batch at a moment of the past: its events folded from the log, up to there."""

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from millstream.cli.at import parse_at
from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.view import batch_view
from millstream.errors import UsageError
from millstream.eventlog.log import EventLog
from millstream.eventlog.redaction import batch_history
from millstream.eventlog.stored import Stored, decode
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.slices import SliceEvent
from millstream_schemas.views import BatchView

_FORBIDDEN = frozenset(" .*>\t\r\n")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Moment:
    """A sequence of the log, or a time; neither is now."""

    sequence: int | None = None
    time: datetime | None = None

    def includes(self, stored: Stored) -> bool:
        """Tell whether an event had happened by then."""
        if self.sequence is not None:
            return stored.sequence <= self.sequence
        return self.time is None or stored.stored_at <= self.time


@dataclass(slots=True)
class Deed:
    """An event that is no sample's: what was done, by whom, from where, and why.

    ``command_id`` is None where an earlier event was the cause, ``address`` where no person's and
    no key's command was.
    """

    sequence: int
    time: datetime
    type: str
    actor: str
    address: str | None
    command_id: str | None
    reason: str


@dataclass(slots=True)
class BatchAt:
    """A batch up to a moment; ``as_of`` and ``time`` are those of its last event by then."""

    state: BatchState
    as_of: int = 0
    time: datetime = _EPOCH
    types: Counter[str] = field(default_factory=Counter)
    deeds: list[Deed] = field(default_factory=list)

    @property
    def view(self) -> BatchView:
        """The batch as users saw it then."""
        return batch_view(self.state)

    def take(self, stored: Stored) -> None:
        """Fold one event."""
        self.as_of, self.time = stored.sequence, stored.stored_at
        recorded = decode(stored)
        if recorded is None:
            self.types["(unreadable)"] += 1
            return
        event = recorded.event
        self.types[str(getattr(event, "type", ""))] += 1
        if not isinstance(event, SliceEvent):
            self.deeds.append(_deed(stored, event))
        self.state = apply(self.state, recorded)


def parse_moment(text: str | None) -> Moment:
    """Return the moment that ``text`` names, as ``parse_at`` reads it.

    Raises:
        UsageError: it names none.
    """
    found = parse_at(text)
    if isinstance(found, datetime):
        return Moment(time=found)
    return Moment(sequence=found)


async def batch_at(event_log: EventLog, batch_id: str, moment: Moment) -> BatchAt:
    """Return the batch as it was at ``moment``.

    Raises:
        UsageError: there was no such batch by then, or the log does not reach to ``moment``.
        LogUnavailableError: the log does not answer.
    """
    (found,) = await batch_at_each(event_log, batch_id, (moment,))
    return found


async def batch_at_each(
    event_log: EventLog, batch_id: str, moments: tuple[Moment, ...]
) -> list[BatchAt]:
    """Return the batch as it was at each of ``moments``; raises as ``batch_at``."""
    await _check_reached(event_log, moments)
    found = [BatchAt(BatchState(batch_id)) for _ in moments]
    if batch_id and not _FORBIDDEN & set(batch_id):
        pages = batch_history(event_log, batch_id)
        async with contextlib.aclosing(pages):
            async for page in pages:
                for stored in page:
                    for moment, seen in zip(moments, found, strict=True):
                        if moment.includes(stored):
                            seen.take(stored)
                if not any(moment.includes(page[-1]) for moment in moments):
                    break
    if any(seen.state.started is None for seen in found):
        raise UsageError(
            f"BATCH={batch_id[:80]!r} was not in the log by then; `millstream batch list` shows"
            " the ids, and `millstream batch show` when each was started",
            field="BATCH",
            value=batch_id,
        )
    return found


async def _check_reached(event_log: EventLog, moments: tuple[Moment, ...]) -> None:
    """Raise UsageError for a sequence that the log has not come to."""
    latest = max(moment.sequence or 0 for moment in moments)
    end = (await event_log.head()).last
    if latest > end:
        raise UsageError(
            f"sequence {latest} lies beyond the log's end, which is at {end}; `now` is the present",
            field="at",
            value=str(latest),
        )


def _deed(stored: Stored, event: BatchEvent) -> Deed:
    return Deed(
        sequence=stored.sequence,
        time=stored.stored_at,
        type=str(getattr(event, "type", "")),
        actor=f"{event.actor.kind} {event.actor.id}",
        address=event.actor.address,
        command_id=event.command_id,
        reason=getattr(event, "reason", ""),
    )
