"""What of a chunk of the log the dispatcher needs to read; pure."""

from collections.abc import Iterable, Sequence

from millstream.eventlog.stored import Stored
from millstream_schemas import subjects


def newest(chunk: Sequence[Stored]) -> Iterable[tuple[Stored, tuple[str, int] | None]]:
    """Return each slice's last event of the chunk and all other events, in their order.

    A slice's last event says all that there is to know of it, so those before it need not even be
    parsed. With each comes (batch id, slice index), None for an event of no slice.
    """
    found: list[tuple[Stored, tuple[str, int] | None]] = []
    seen: set[str] = set()
    for stored in reversed(chunk):
        if stored.subject not in seen:
            parsed = subjects.parse_slice(stored.subject)
            found.append((stored, parsed))
            if parsed is not None:
                seen.add(stored.subject)
    return reversed(found)
