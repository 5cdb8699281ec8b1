"""Messages as they come over the wire, for whoever reads the whole log.

The client makes an object of each message, and its task hands them on one by one: as dear as to
fold them. What arrives on a tapped subscription is taken apart here and kept as it is.
"""

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

if TYPE_CHECKING:
    from collections.abc import Mapping

_LINE_END = b"\r\n"
_VERBS = (b"HMSG ", b"MSG ")


class Frame(NamedTuple):
    """One message; ``headers`` are the bytes as they came, with the protocol's first line."""

    subject: bytes
    reply: bytes
    headers: bytes
    payload: bytes

    @property
    def status(self) -> str:
        """What the server says with its first line, as three digits; "" for a stored message."""
        words = self.headers.partition(_LINE_END)[0].split(maxsplit=2)
        return words[1].decode() if len(words) > 1 else ""

    @property
    def header_lines(self) -> bytes:
        """The lines below the first."""
        return self.headers.partition(_LINE_END)[2]


class Tap:
    """Collects what arrives on one subscription."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._arrived = asyncio.Event()

    def put(self, frame: Frame) -> None:
        """Add a message."""
        self._frames.append(frame)
        self._arrived.set()

    async def take(self, most: int, bound_s: float) -> list[Frame]:
        """Return what has arrived, up to ``most``; waits ``bound_s`` seconds for the first one."""
        try:
            async with asyncio.timeout(bound_s):
                await self._arrived.wait()
        except TimeoutError:
            return []
        frames, self._frames = self._frames[:most], self._frames[most:]
        if not self._frames:
            self._arrived.clear()
        return frames


class FrameParser(Parser):
    """The client's parser, which hands what is tapped to its tap and leaves the rest as it is.

    ``taps`` are by the subscription's number. What the client's own code has begun to read it
    reads to its end: ``UserConnection`` gives that to the tap.
    """

    def __init__(self, client: object, taps: "Mapping[int, Tap]") -> None:
        super().__init__(client)
        self._taps = taps
        self._needed = 0

    def reset(self) -> None:
        """Forget what was cut off with the last connection."""
        super().reset()
        self._needed = 0

    async def parse(self, data: bytes = b"") -> None:
        """Take in what has arrived."""
        if self._taps and self.state == AWAITING_CONTROL_LINE:
            if len(self.buf) + len(data) < self._needed:
                self.buf.extend(data)
                return
            whole = bytes(self.buf) + data if self.buf else data
            place, self._needed = self._tapped(whole)
            self.buf = bytearray(whole[place:])
            if self._needed:
                return
            data = b""
        self._needed = 0
        await super().parse(data)

    def _tapped(self, data: bytes) -> tuple[int, int]:
        """Hand over the messages at the beginning; return where they end.

        And how many bytes from there on the message needs that begins there, 0 if none does. A
        line that is cut off needs one more: whose it is shows once it is whole.
        """
        place = 0
        while data.startswith(_VERBS, place):
            line_end = data.find(_LINE_END, place)
            if line_end < 0:
                return place, len(data) - place + 1
            verb, subject, number, *words = data[place:line_end].split()
            tap = self._taps.get(int(number))
            if tap is None:
                return place, 0
            begin = line_end + len(_LINE_END)
            end = begin + int(words[-1])
            if len(data) < end + len(_LINE_END):
                return place, end + len(_LINE_END) - place
            middle, replies = begin, words[:-1]
            if verb == b"HMSG":
                middle, replies = begin + int(words[-2]), words[:-2]
            reply = replies[0] if replies else b""
            tap.put(Frame(subject, reply, data[begin:middle], data[middle:end]))
            place = end + len(_LINE_END)
        return place, 0
