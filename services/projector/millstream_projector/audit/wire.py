"""How a process that reads the log and one that folds a part of it speak: frames over a socket.

Events go one way as MessagePack, since there are so many of them; what they change comes back
pickled, since it is of many kinds: one process has started the other, both are this program.
"""

import contextlib
import pickle
import socket
from collections.abc import Sequence
from typing import Any

import msgspec

from millstream.eventlog.stored import StandIn, Stored

LENGTH_BYTES = 8


class Told(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Events in stream order, and whether their transaction ends there; stand-ins stand apart."""

    is_end: bool
    events: list[Stored]
    stand_ins: list[StandIn]

    @classmethod
    def of(cls, events: Sequence[Stored], *, is_end: bool = False) -> "Told":
        """Return what tells ``events``."""
        stand_ins = [stored for stored in events if isinstance(stored, StandIn)]
        if stand_ins:
            events = [stored for stored in events if not isinstance(stored, StandIn)]
        return cls(is_end, list(events), stand_ins)

    @property
    def all_events(self) -> list[Stored]:
        """All events in stream order."""
        if not self.stand_ins:
            return self.events
        return sorted([*self.events, *self.stand_ins], key=lambda stored: stored.sequence)


_encode_into = msgspec.msgpack.Encoder().encode_into
_decode = msgspec.msgpack.Decoder(Told).decode


def _length(count: int) -> bytes:
    return count.to_bytes(LENGTH_BYTES, "big")


class Channel:
    """One end of a connection between two processes; each direction belongs to one thread."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._frame = bytearray()
        self._told = bytearray()

    def tell(self, told: Told) -> None:
        """Send events; raises as ``send``."""
        _encode_into(told, self._told, LENGTH_BYTES)
        self._told[:LENGTH_BYTES] = _length(len(self._told) - LENGTH_BYTES)
        self._end.sendall(self._told)

    def told(self) -> Told:
        """Return the events that come next; raises as ``receive``."""
        return _decode(self._receive())

    def send(self, thing: object) -> None:
        """Send a thing.

        Raises:
            OSError: the other process is gone.
        """
        frame = pickle.dumps(thing, protocol=pickle.HIGHEST_PROTOCOL)
        # One call for a frame, however long: with many a thread waits each time for Python's lock.
        self._end.sendall(b"".join((_length(len(frame)), frame)))

    def receive(self) -> Any:
        """Return the thing that comes next.

        Raises:
            EOFError: the other process is gone.
            OSError: the connection fails in another way.
        """
        return pickle.loads(self._receive())  # noqa: S301  # from a process of this program

    def _receive(self) -> memoryview:
        return self._read(int.from_bytes(self._read(LENGTH_BYTES), "big"))

    def _read(self, count: int) -> memoryview:
        if len(self._frame) < count:
            self._frame = bytearray(count)
        view, place = memoryview(self._frame)[:count], 0
        while place < count:
            try:
                found = self._end.recv_into(view[place:], 0, socket.MSG_WAITALL)
            except ConnectionError as error:
                raise EOFError("the other process is gone") from error
            if not found:
                raise EOFError("the other process is gone")
            place += found
        return view

    def end(self) -> None:
        """Let whoever waits at either end find that nothing comes any more."""
        with contextlib.suppress(OSError):  # the other process has gone first
            self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of this end."""
        self._end.close()
