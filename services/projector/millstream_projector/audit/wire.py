"""What a rebuild's reader tells its fold, as plain values: classes cost five times as much."""

from collections.abc import Sequence
from typing import NamedTuple

from millstream.eventlog.redaction import StandIn
from millstream.eventlog.stored import Stored, moment

Message = tuple[int, int, str, bytes, bytes, tuple[()] | tuple[bytes, int]]
"""An event as its reader had it: sequence, microseconds since 1970, subject, payload, headers; the
last part is of the stand-in of an erased one."""


class Begin(NamedTuple):
    """Where the new file goes, and which stream it is made from, up to where at least."""

    directory: str
    stream: str
    last_sequence: int


def packed(chunk: Sequence[Stored]) -> list[Message]:
    """Return events as they are told."""
    return [
        (
            stored.sequence,
            stored.time_us,
            stored.subject,
            stored.payload,
            stored.headers,
            (stored.payload_hash, stored.redacted_by) if isinstance(stored, StandIn) else (),
        )
        for stored in chunk
    ]


def unpacked(messages: Sequence[Message]) -> list[Stored]:
    """Return what was packed."""
    return [
        StandIn(number, moment(time_us), subject, payload, headers, *redacted)
        if redacted
        else Stored(number, moment(time_us), subject, payload, headers)
        for number, time_us, subject, payload, headers, redacted in messages
    ]
