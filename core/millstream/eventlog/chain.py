"""The hash chain over the log: one root that stands for every event up to a sequence.

``root' = SHA-256(root ‖ sequence ‖ time ‖ subject ‖ headers ‖ SHA-256(payload))``; docs/audit.md
gives the bytes. A changed, removed, inserted or moved event changes every root after it. Of an
erased message its redaction keeps all of these, so no root changes.
"""

import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from millstream.eventlog.stored import StandIn, Stored

GENESIS = bytes(32)
"""The root of a log without events."""
ROOT_BYTES = 32
RECENT = 65_536

_place = struct.Struct(">QqII").pack
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
    place = _place(stored.sequence, stored.time_us, len(subject), len(headers))
    # Most are no stand-ins: spare them a call.
    hashed = sha256(stored.payload).digest() if type(stored) is Stored else payload_hash(stored)
    return sha256(b"".join((root, place, subject, headers, hashed))).digest()


def links(root: bytes, items: Iterable[Stored]) -> list[bytes]:
    """Return the root after each of more events, which follow ``root`` in stream order."""
    roots = []
    for stored in items:
        root = link(root, stored)
        roots.append(root)
    return roots


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

    def extend(self, state: ChainState, items: Sequence[Stored]) -> ChainState:
        """Return the chain after more events, as ``extend``, and remember each root."""
        if not items:
            return state
        roots = links(state.root, items)
        first, last = items[0].sequence, items[-1].sequence
        is_whole = last - first + 1 == len(items) <= RECENT
        if is_whole and first % RECENT <= last % RECENT:
            self._keep(first, roots)
        else:
            for stored, its in zip(items, roots, strict=True):
                self._keep(stored.sequence, [its])
        return ChainState(last, roots[-1], state.events + len(items))

    def _keep(self, first: int, roots: list[bytes]) -> None:
        """Remember the roots after as many events from ``first`` on, which follow each other."""
        begin, count = first % RECENT, len(roots)
        end = begin + count
        self._sequences[begin:end] = array("q", bytes(8 * count))  # no old root passes for a new
        self._roots[begin * ROOT_BYTES : end * ROOT_BYTES] = b"".join(roots)
        self._sequences[begin:end] = array("q", range(first, first + count))

    def get(self, sequence: int) -> bytes | None:
        """Return the root after ``sequence``, None when it is not among the last."""
        place = sequence % RECENT
        if sequence <= 0 or self._sequences[place] != sequence:
            return None
        root = bytes(self._roots[place * ROOT_BYTES : (place + 1) * ROOT_BYTES])
        return root if self._sequences[place] == sequence else None
