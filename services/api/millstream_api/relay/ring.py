"""The latest events of the log in memory, worded once for all clients of the lossless stream."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any, Self

import orjson

from millstream.eventlog.redaction import stand_ins_of
from millstream.eventlog.stored import Stored
from millstream_api.relay.positions import format_position
from millstream_schemas import subjects

EVENTS_MOST = 8192
BYTES_MOST = 16_000_000
FRAMES_PER_SEND = 512
BYTES_PER_SEND = 262_144
UNREADABLE = "unreadable"
"""Event name of a message whose payload tells no type."""
_LINE_ENDS = (b"\r\n", b"\r")


class Entry:
    """One event as it is sent, or a gap: the sequences ``first`` to ``last`` are lost."""

    __slots__ = ("_frame", "_type", "batch_id", "first", "last", "payload")

    def __init__(self, first: int, last: int, batch_id: str, payload: bytes | None) -> None:
        """``payload`` None: a gap."""
        self.first = first
        self.last = last
        self.batch_id = batch_id
        self.payload = payload
        self._type: str | None = None if payload is not None else "gap"
        self._frame: bytes | None = None

    @classmethod
    def of(cls, stored: Stored) -> Self:
        """Return the entry of one event."""
        batch_id = stored.subject.removeprefix(subjects.EVENTS_PREFIX).partition(".")[0]
        return cls(stored.sequence, stored.sequence, batch_id, stored.payload)

    @classmethod
    def lost(cls, first: int, last: int) -> Self:
        """Return the gap from ``first`` to ``last``."""
        return cls(first, last, "", None)

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return len(self.payload) if self.payload is not None else 0

    @property
    def type(self) -> str:
        """The event's type, such as ``batch.started.v1``."""
        if self._type is None:
            self._type = _type_of(self.payload or b"")
        return self._type

    def frame(self, epoch: str) -> bytes:
        """Return the entry as one server-sent event; encoded once."""
        if self._frame is None:
            if self.payload is None:
                body = gap_body(self.first, self.last, "lost")
            else:
                body = _one_line(self.payload)
            self._frame = b"id: %b\nevent: %b\ndata: %b\n\n" % (
                format_position(self.last, epoch).encode(),
                self.type.encode(),
                body,
            )
        return self._frame


def gap_body(first: int | None, last: int, reason: str) -> bytes:
    """Return the data of a ``gap`` event; ``first`` None: unknown."""
    return orjson.dumps({"from": first, "to": last, "reason": reason})


class Wish:
    """Which events a client wants: of these batches and of these types; None for all."""

    __slots__ = ("batch_ids", "types")

    def __init__(self, batch_ids: frozenset[str] | None, types: frozenset[str] | None) -> None:
        self.batch_ids = batch_ids
        self.types = types

    @property
    def subject_filter(self) -> str:
        """The narrowest filter of the stream that holds all that is wanted."""
        if self.batch_ids is not None and len(self.batch_ids) == 1:
            return subjects.all_of_batch(next(iter(self.batch_ids)))
        return subjects.ALL_EVENTS

    def takes(self, entry: Entry) -> bool:
        """Tell whether ``entry`` is wanted; a gap always is."""
        if entry.payload is None:
            return True
        if self.batch_ids is not None and entry.batch_id not in self.batch_ids:
            return False
        return self.types is None or entry.type in self.types


class Ring:
    """Every event after ``floor`` up to ``last``, as bounded by count and bytes."""

    def __init__(self, events_most: int = EVENTS_MOST, bytes_most: int = BYTES_MOST) -> None:
        self.floor = 0
        self.last = 0
        self._events_most = events_most
        self._bytes_most = bytes_most
        self._bytes = 0
        self._entries: deque[Entry] = deque()
        self._taken: dict[tuple[int, Any, Any], tuple[bytes, int]] = {}
        self._taken_at = -1

    def reset(self, sequence: int) -> None:
        """Start empty after ``sequence``."""
        self._entries.clear()
        self._bytes = 0
        self.floor = self.last = sequence

    def add(self, page: Iterable[Stored]) -> None:
        """Take in what follows; what is missing in between is lost, and shown as a gap.

        What a redaction names is replaced at once: erased text is sent to nobody any more.
        """
        for stored in page:
            if stored.sequence <= self.last:
                continue
            if stored.sequence > self.last + 1:
                self._entries.append(Entry.lost(self.last + 1, stored.sequence - 1))
            entry = Entry.of(stored)
            self._entries.append(entry)
            self._bytes += entry.size
            self.last = stored.sequence
            for made in stand_ins_of(stored):
                self._replace(made)
        while len(self._entries) > self._events_most or self._bytes > self._bytes_most:
            oldest = self._entries.popleft()
            self._bytes -= oldest.size
            self.floor = oldest.last

    def take(self, cursor: int, wish: Wish, epoch: str) -> tuple[bytes, int]:
        """Return the next frames after ``cursor``, and the sequence up to which they tell all.

        ``cursor`` is neither below ``floor`` nor above ``last``. Clients with one cursor and one
        wish share the bytes.
        """
        if self._taken_at != self.last:
            self._taken.clear()
            self._taken_at = self.last
        key = (cursor, wish.batch_ids, wish.types)
        found = self._taken.get(key)
        if found is None:
            start = bisect_right(self._entries, cursor, key=_last)
            found = joined(islice(self._entries, start, None), wish, epoch, self.last)
            self._taken[key] = found
        return found

    def _replace(self, stored: Stored) -> None:
        place = bisect_right(self._entries, stored.sequence - 1, key=_last)
        if place < len(self._entries) and self._entries[place].first == stored.sequence:
            entry = Entry.of(stored)
            self._bytes += entry.size - self._entries[place].size
            self._entries[place] = entry


def joined(entries: Iterable[Entry], wish: Wish, epoch: str, last: int) -> tuple[bytes, int]:
    """Return frames for one send, and the sequence that they reach: ``last`` when all fit."""
    parts: list[bytes] = []
    size = 0
    reached: int | None = None
    for entry in entries:
        if len(parts) >= FRAMES_PER_SEND or size >= BYTES_PER_SEND:
            return b"".join(parts), reached or 0
        if wish.takes(entry):
            frame = entry.frame(epoch)
            parts.append(frame)
            size += len(frame)
        reached = entry.last
    return b"".join(parts), last


def _last(entry: Entry) -> int:
    return entry.last


def _type_of(payload: bytes) -> str:
    try:
        found = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return UNREADABLE
    name = found.get("type") if isinstance(found, dict) else None
    is_plain = isinstance(name, str) and name.isascii() and name.isprintable() and len(name) <= 100
    return str(name) if is_plain and name else UNREADABLE


def _one_line(payload: bytes) -> bytes:
    """Return a payload as the value of ``data:``; a line end in it begins another such line."""
    for end in _LINE_ENDS:
        payload = payload.replace(end, b"\n")
    return payload.replace(b"\n", b"\ndata: ")
