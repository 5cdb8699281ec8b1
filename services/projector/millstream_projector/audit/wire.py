"""What a rebuild's reader tells its fold: frames of MessagePack, each behind its length.

The reader computes the hash chain, so that neither of the two processes waits for the other.
"""

from collections.abc import Sequence
from io import BufferedReader
from typing import NamedTuple

import msgspec

from millstream.eventlog.chain import GENESIS, ROOT_BYTES, ChainState, links
from millstream.eventlog.stored import StandIn, Stored

LENGTH_BYTES = 8


class Begin(NamedTuple):
    """Where the new file goes, and which stream it is made from, up to where at least."""

    directory: str
    stream: str
    last_sequence: int


class _Words(msgspec.Struct, array_like=True, frozen=True, gc=False):
    events: list[Stored]
    stand_ins: list[StandIn]
    roots: bytes


_encoder = msgspec.msgpack.Encoder()
_begin = msgspec.msgpack.Decoder(Begin)
_words = msgspec.msgpack.Decoder(_Words)


class Teller:
    """Makes frames of events in stream order."""

    def __init__(self) -> None:
        self._root = GENESIS
        self._frame = bytearray()

    def begin(self, begin: Begin) -> bytes:
        """Return the frame that comes first."""
        return self._framed(begin)

    def tell(self, chunk: Sequence[Stored]) -> bytes:
        """Return the frame of events."""
        roots = links(self._root, chunk)
        self._root = roots[-1]
        stand_ins = [stored for stored in chunk if isinstance(stored, StandIn)]
        if stand_ins:
            chunk = [stored for stored in chunk if not isinstance(stored, StandIn)]
        return self._framed(_Words(list(chunk), stand_ins, b"".join(roots)))

    def end(self) -> bytes:
        """Return the frame that says that this was all."""
        return bytes(LENGTH_BYTES)

    def _framed(self, words: Begin | _Words) -> bytes:
        _encoder.encode_into(words, self._frame, LENGTH_BYTES)
        self._frame[:LENGTH_BYTES] = (len(self._frame) - LENGTH_BYTES).to_bytes(LENGTH_BYTES, "big")
        return bytes(self._frame)  # whoever writes it may keep it until it is written


class Listener:
    """Reads what is told; use ``extend`` as the hash chain of the events."""

    def __init__(self, source: BufferedReader) -> None:
        self._source = source
        self._frame = bytearray()
        self._roots = b""
        self._place = 0

    def begin(self) -> Begin:
        """Return what comes first; raises as ``events``."""
        return _begin.decode(self._next() or b"")

    def events(self) -> list[Stored] | None:
        """Return the next events, None when those before were all.

        Raises:
            EOFError: the end has come and was not told.
        """
        frame = self._next()
        if frame is None:
            return None
        words = _words.decode(frame)
        self._roots, self._place = words.roots, 0
        if not words.stand_ins:
            return words.events
        return sorted([*words.events, *words.stand_ins], key=lambda stored: stored.sequence)

    def extend(self, state: ChainState, items: Sequence[Stored]) -> ChainState:
        """Return the chain after the next events of those that were told."""
        self._place += len(items) * ROOT_BYTES
        root = self._roots[self._place - ROOT_BYTES : self._place]
        return ChainState(items[-1].sequence, root, state.events + len(items))

    def _next(self) -> memoryview | None:
        length = int.from_bytes(self._read(LENGTH_BYTES), "big")
        return self._read(length) if length else None

    def _read(self, count: int) -> memoryview:
        if len(self._frame) < count:
            self._frame = bytearray(count)
        view = memoryview(self._frame)[:count]
        if self._source.readinto(view) < count:  # buffered: all, or the end
            raise EOFError("the log's reader ended before the log")
        return view
