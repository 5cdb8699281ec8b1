"""What a tap is given, however the bytes were cut on their way and whatever stands between."""

from random import Random
from typing import Any

import pytest

from millstream.eventlog.connection import UserConnection
from millstream.eventlog.frames import Frame, Tap

pytestmark = pytest.mark.anyio

HEADERS = b"NATS/1.0\r\nA: 1\r\n\r\n"
FRAMES = [
    Frame(b"mill.events.b.note", b"$JS.ACK.1", b"", b"{}"),
    Frame(b"mill.events.b.note", b"$JS.ACK.2", HEADERS, b"MSG x 7 2\r\n{}\r\n"),
    Frame(b"_INBOX.a", b"", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n", b""),
    Frame(b"_INBOX.a", b"", b"", b"\r\n" * 40_000),
]


def wire(frame: Frame, number: int) -> bytes:
    subject, reply, headers, payload = frame
    middle = b" ".join(filter(None, [subject, b"%d" % number, reply]))
    whole = headers + payload
    if headers:
        return b"HMSG %b %d %d\r\n%b\r\n" % (middle, len(headers), len(whole), whole)
    return b"MSG %b %d\r\n%b\r\n" % (middle, len(whole), whole)


class Client(UserConnection):
    """A client without a server, which notes what its own code is given."""

    def __init__(self) -> None:
        super().__init__(None)
        self.tap = Tap()
        self._taps[7] = self.tap
        self.others: list[Frame] = []
        self.pings = 0

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        if sid == 7:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            self.others.append(Frame(subject, reply, headers or b"", data))

    async def _process_ping(self) -> None:
        self.pings += 1

    async def feed(self, data: bytes) -> None:
        await self._ps.parse(data)


@pytest.mark.parametrize("seed", range(30))
async def test_a_tap_gets_its_messages_in_order_however_the_bytes_are_cut(seed: int) -> None:
    rng = Random(seed)
    client, expected, others, pings = Client(), [], [], 0
    stream = b""
    for _ in range(40):
        frame, draw = rng.choice(FRAMES), rng.random()
        if draw < 0.7:
            expected.append(frame)
            stream += wire(frame, 7)
        elif draw < 0.9:
            others.append(frame)
            stream += wire(frame, 8)
        else:
            pings += 1
            stream += b"PING\r\n"
    place = 0
    while place < len(stream):
        size = rng.choice([1, 3, 50, 5_000, 100_000])
        await client.feed(stream[place : place + size])
        place += size
    assert await taken(client.tap) == expected
    assert (client.others, client.pings) == (others, pings)


async def test_a_large_message_is_not_taken_apart_before_it_is_whole() -> None:
    client, looks = Client(), 0
    whole = Frame(b"a", b"r", b"", bytes(2**20))
    data = wire(whole, 7) + b"PING\r\n"
    look = client._ps._tapped

    def counted(found: bytes) -> tuple[int, int]:
        nonlocal looks
        looks += 1
        return look(found)

    client._ps._tapped = counted  # type: ignore[method-assign]
    for place in range(0, len(data), 32_768):
        await client.feed(data[place : place + 32_768])
    assert await taken(client.tap) == [whole]
    assert (looks, client.pings) == (2, 1)


async def test_what_was_cut_off_with_a_connection_is_forgotten() -> None:
    client = Client()
    await client.feed(wire(Frame(b"a", b"r", b"", bytes(1000)), 7)[:100])
    client._ps.reset()
    frame = Frame(b"a", b"r", b"", b"new")
    await client.feed(wire(frame, 7))
    assert await taken(client.tap) == [frame]


async def taken(tap: Tap) -> list[Any]:
    found: list[Frame] = []
    while frames := await tap.take(3, 0.01):
        assert len(frames) <= 3
        found += frames
    return found


def test_a_frame_tells_what_the_server_says_from_what_it_stores() -> None:
    assert [frame.status for frame in FRAMES] == ["", "", "100", ""]
    assert FRAMES[1].header_lines == b"A: 1\r\n\r\n"
