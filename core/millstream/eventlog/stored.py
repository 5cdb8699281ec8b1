"""A stored message as read from the stream, and how it becomes an event."""

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import structlog

from millstream.domain.recorded import Recorded, microseconds, moment
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.events import (
    MalformedEventError,
    SystemEventError,
    UnknownEventError,
    parse,
)

log = structlog.get_logger()

TOLD_MOST = 1_000
"""Causes that a reader remembers to have logged."""


IMPORTED = "Millstream-Imported"
_IMPORTED_LINE = f"{IMPORTED}: ".encode()
_ADDED_BY_READING = b"Nats-Stream: "
"""The first of the headers that the server puts behind a message's own when it is read directly
or republished."""


class Stored(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A message of the event stream; ``time_us`` is the stream's own clock (UTC), since 1970.

    ``headers`` are the header lines as stored, without the protocol's first line and the last
    line's end. Of an imported event both are those of the stream that it came from.
    """

    sequence: int
    time_us: int
    subject: str
    payload: bytes
    headers: bytes = b""

    @property
    def stored_at(self) -> datetime:
        """``time_us`` as a time."""
        return moment(self.time_us)


class StandIn(Stored, array_like=True, frozen=True, gc=False):
    """What a redaction keeps of a message; ``payload_hash`` is that of the message itself."""

    payload_hash: bytes = b""
    redacted_by: int = 0


class Decoder:
    """Turns stored messages into events; counts what it can't read, so that nothing hides."""

    def __init__(self) -> None:
        self.unknown = 0
        self.malformed = 0
        self.system = 0
        self._told: set[str] = set()

    def __call__(self, stored: Stored) -> Recorded[BatchEvent] | None:
        """Return the event of a batch.

        None for one of no batch, and for one that this version can't read: counted, and logged the
        first time that its type, or it, is met. Batches are read again and again.
        """
        try:
            event = parse(stored.payload)
        except SystemEventError:
            self.system += 1
            return None
        except UnknownEventError as error:
            self.unknown += 1
            if self._is_news(str(error)):
                log.warning("event.unknown", sequence=stored.sequence, reason=str(error))
            return None
        except MalformedEventError as error:
            self.malformed += 1
            if self._is_news(f"{stored.sequence}"):
                log.error("event.malformed", sequence=stored.sequence, reason=str(error)[:500])  # noqa: TRY400
            return None
        return Recorded(stored.sequence, stored.stored_at, event)

    def _is_news(self, cause: str) -> bool:
        """Tell whether nothing was logged of ``cause`` yet, as far as is remembered."""
        if cause in self._told:
            return False
        if len(self._told) >= TOLD_MOST:
            self._told.clear()
        self._told.add(cause)
        return True

    def look(self, sequence: int, event: BatchEvent) -> None:
        """Look at an event that is about to be folded, however it was read."""


decode = Decoder()


def parse_time(text: str) -> datetime:
    """Return an RFC 3339 stamp with up to nine decimals as UTC (microseconds kept)."""
    return datetime.fromisoformat(text).astimezone(UTC)


def from_headers(headers: Mapping[str, str], payload: bytes) -> Stored:
    """Return the stored message of a direct-get answer or of a republished message."""
    return stored_message(
        int(headers["Nats-Sequence"]),
        microseconds(parse_time(headers["Nats-Time-Stamp"])),
        headers["Nats-Subject"],
        payload,
        getattr(headers, "raw", b""),
    )


def stored_message(sequence: int, time_us: int, subject: str, payload: bytes, raw: bytes) -> Stored:
    """Return a message whose header lines came as ``raw``, whichever way it was read."""
    if raw:
        raw = _own_lines(raw)
        if _IMPORTED_LINE in raw:
            time_us, raw = _origin(raw, time_us)
    return Stored(sequence, time_us, subject, payload, raw)


def imported_header(stored: Stored) -> str:
    """Return the value of the header with which an event keeps its time and its headers."""
    return f"{stored.time_us} {base64.b64encode(stored.headers).decode()}"


def _own_lines(raw: bytes) -> bytes:
    if raw.startswith(_ADDED_BY_READING):
        return b""
    end = raw.rfind(b"\r\n" + _ADDED_BY_READING)
    return raw[:end] if end >= 0 else raw.rstrip(b"\r\n")


def _origin(raw: bytes, time_us: int) -> tuple[int, bytes]:
    """Return the time and headers that an imported event had; what nobody imported stays."""
    for line in raw.split(b"\r\n"):
        if line.startswith(_IMPORTED_LINE):
            origin_us, _, headers = line[len(_IMPORTED_LINE) :].partition(b" ")
            try:
                # What is no time at all is nobody's either.
                return microseconds(moment(int(origin_us))), base64.b64decode(
                    headers, validate=True
                )
            except (ValueError, OverflowError, binascii.Error):
                break
    return time_us, raw
