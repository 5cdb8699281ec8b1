"""A stored message as read from the stream, and how it becomes an event."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from millstream.domain.recorded import Recorded
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.events import MalformedEventError, UnknownEventError, parse

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Stored:
    """A message of the event stream: ``stored_at`` is the stream's own clock (UTC)."""

    sequence: int
    stored_at: datetime
    subject: str
    payload: bytes


class Decoder:
    """Turns stored messages into events; counts what it can't read, so that nothing hides."""

    def __init__(self) -> None:
        self.unknown = 0
        self.malformed = 0

    def __call__(self, stored: Stored) -> Recorded[BatchEvent] | None:
        """Return the event, None for one that this version can't read (counted and logged)."""
        try:
            event = parse(stored.payload)
        except UnknownEventError as error:
            self.unknown += 1
            log.warning("event.unknown", sequence=stored.sequence, reason=str(error))
            return None
        except MalformedEventError as error:
            self.malformed += 1
            log.error("event.malformed", sequence=stored.sequence, reason=str(error)[:500])  # noqa: TRY400
            return None
        return Recorded(stored.sequence, stored.stored_at, event)


decode = Decoder()


def parse_time(text: str) -> datetime:
    """Return an RFC 3339 stamp with up to nine decimals as UTC (microseconds kept)."""
    return datetime.fromisoformat(text).astimezone(UTC)


def from_headers(headers: Mapping[str, str], payload: bytes) -> Stored:
    """Return the stored message of a direct-get answer or of a republished message."""
    return Stored(
        int(headers["Nats-Sequence"]),
        parse_time(headers["Nats-Time-Stamp"]),
        headers["Nats-Subject"],
        payload,
    )
