"""The hash chain over the log: one root that stands for every event up to a sequence.

``root' = SHA-256(root ‖ sequence ‖ time ‖ subject ‖ headers ‖ SHA-256(payload))``; docs/audit.md
gives the bytes. A changed, removed, inserted or moved event changes every root after it. Of an
erased message its redaction keeps all of these, so no root changes.
"""

import struct
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from millstream.eventlog.redaction import StandIn
from millstream.eventlog.stored import Stored

GENESIS = bytes(32)
"""The root of a log without events."""
ROOT_BYTES = 32
RECENT = 65_536

_PLACE = struct.Struct(">QqII")
"""Sequence, microseconds since 1970, length of the subject, length of the headers."""


@dataclass(frozen=True, slots=True)
class ChainState:
    """The chain up to ``sequence``: its root, and how many events it covers."""

    sequence: int = 0
    root: bytes = GENESIS
    events: int = 0


def link(root: bytes, stored: Stored) -> bytes:
    """Return the root after one more event."""
    subject, headers = stored.subject.encode(), stored.headers
    place = _PLACE.pack(stored.sequence, stored.time_us, len(subject), len(headers))
    return sha256(root + place + subject + headers + payload_hash(stored)).digest()


def payload_hash(stored: Stored) -> bytes:
    """Return the SHA-256 of a message's payload, also of one that was erased."""
    if isinstance(stored, StandIn):
        return stored.payload_hash
    return sha256(stored.payload).digest()


def extend(state: ChainState, items: Iterable[Stored]) -> ChainState:
    """Return the chain after more events, which follow ``state`` in stream order."""
    root, sequence, events = state.root, state.sequence, state.events
    for stored in items:
        root = link(root, stored)
        sequence = stored.sequence
        events += 1
    return ChainState(sequence, root, events)


class RecentRoots:
    """The roots after each of the last ``RECENT`` events; one thread adds, any may look."""

    def __init__(self) -> None:
        self._sequences = array("q", bytes(8 * RECENT))
        self._roots = bytearray(ROOT_BYTES * RECENT)

    def extend(self, state: ChainState, items: Iterable[Stored]) -> ChainState:
        """Return the chain after more events, as ``extend``, and remember each root."""
        root, sequence, events = state.root, state.sequence, state.events
        sequences, roots = self._sequences, self._roots
        for stored in items:
            root = link(root, stored)
            sequence = stored.sequence
            place = sequence % RECENT
            sequences[place] = 0  # nobody may take the old root for the new one
            roots[place * ROOT_BYTES : (place + 1) * ROOT_BYTES] = root
            sequences[place] = sequence
            events += 1
        return ChainState(sequence, root, events)

    def get(self, sequence: int) -> bytes | None:
        """Return the root after ``sequence``, None when it is not among the last."""
        place = sequence % RECENT
        if sequence <= 0 or self._sequences[place] != sequence:
            return None
        root = bytes(self._roots[place * ROOT_BYTES : (place + 1) * ROOT_BYTES])
        return root if self._sequences[place] == sequence else None
