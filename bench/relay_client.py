"""Many readers of one event stream, in a process of their own; they print what they saw.

``python -m bench.relay_client URL CLIENTS SECONDS``: connects, prints ``ready``, counts from the
first line on stdin for that long, and prints a JSON line. A few readers look into the frames for
the time in them: ``"at":<seconds>`` of a yardstick, or the time of a batch's last sample. A time
that comes again is not news: a claim changes the batch too, and its frame repeats the sample
before. How late this process itself was is told beside, as the lag of its loop.
"""

import asyncio
import json
import re
import sys
import time
from datetime import datetime
from urllib.parse import urlsplit

import uvloop

LOOKERS = 10
OUR_TIME = re.compile(rb'"last_progress_at":"([^"]+)"')
PLAIN_TIME = re.compile(rb'"at":([0-9.]+)')
CONNECT_TOGETHER = 100
TICK_S = 0.005


class Reader(asyncio.Protocol):
    """Counts what comes; a looker also notes how old each frame was when it came."""

    def __init__(self, head: bytes, *, looks: bool) -> None:
        self.bytes = 0
        self.frames = 0
        self.ages_ms: list[float] = []
        self.is_open = False
        self._head = head
        self._looks = looks
        self._told: set[bytes] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        self.is_open = True
        transport.write(self._head)  # type: ignore[attr-defined]  # a stream transport

    def data_received(self, data: bytes) -> None:
        """Count it."""
        self.bytes += len(data)
        self.frames += data.count(b"\n\n") + data.count(b"\r\n\r\n")
        if self._looks:
            now = time.time()  # noqa: TID251  # the wall clock that the frames were stamped by
            for found in PLAIN_TIME.findall(data):
                self.ages_ms.append((now - float(found)) * 1000)
            for found in set(OUR_TIME.findall(data)) - self._told:
                self._told.add(found)
                at = datetime.fromisoformat(found.decode()).timestamp()
                self.ages_ms.append((now - at) * 1000)

    def connection_lost(self, _: Exception | None) -> None:
        """Note the end."""
        self.is_open = False


async def lags(seconds: float) -> list[float]:
    """Return how late each tick of so many seconds came, in milliseconds."""
    found = []
    now = begun = time.monotonic()
    while now < begun + seconds:
        await asyncio.sleep(TICK_S)
        due, now = now + TICK_S, time.monotonic()
        found.append((now - due) * 1000)
    return found


async def read(url: str, clients: int, seconds: float) -> None:
    """Read with ``clients`` connections; print the counts of ``seconds``."""
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    head = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n\r\n"
    address = parts.hostname or "127.0.0.1", parts.port or 80
    loop = asyncio.get_running_loop()
    readers: list[Reader] = []
    apart = max(1, clients // LOOKERS)

    async def connect(number: int) -> None:
        reader = Reader(head.encode(), looks=number % apart == 0)
        await loop.create_connection(lambda: reader, *address)
        readers.append(reader)

    for start in range(0, clients, CONNECT_TOGETHER):
        async with asyncio.TaskGroup() as tasks:
            for number in range(start, min(start + CONNECT_TOGETHER, clients)):
                tasks.create_task(connect(number))
    async with asyncio.timeout(30):
        while not all(reader.bytes for reader in readers):
            await asyncio.sleep(0.05)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    before = sum(reader.frames for reader in readers), sum(reader.bytes for reader in readers)
    for reader in readers:
        reader.ages_ms.clear()
    begun = time.monotonic()
    lags_ms = await lags(seconds)
    took = time.monotonic() - begun
    found = {
        "frames_per_s": (sum(reader.frames for reader in readers) - before[0]) / took,
        "bytes_per_s": (sum(reader.bytes for reader in readers) - before[1]) / took,
        "ages_ms": [age for reader in readers for age in reader.ages_ms],
        "open": sum(reader.is_open for reader in readers),
        "lags_ms": lags_ms,
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    uvloop.run(read(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
