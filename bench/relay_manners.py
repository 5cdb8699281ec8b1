"""How the live stream treats the net and its readers: what a page costs, slow readers, the end.

One API in a process of its own. A page reads deltas while nothing happens and at 20 events a
second; then one reader takes 20 KB/s of whole states at 200 events a second, beside a quick one;
then a thousand streams are open while the API is asked to end.
"""

import asyncio
import contextlib
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from bench.measure import Metric, percentile
from bench.relay_client import Reader
from bench.relay_load import TOGETHER, moving
from millstream.testing.nats import RunningLog, running_log
from millstream.testing.service_process import ApiProcess

DELTAS, STATES = "/v1/stream?flavour=deltas", "/v1/stream"
STREAMS = 1_000
IDLE_S = 30.0
BUSY_S = 10.0
SLOW_S = 24.0
SLOW_BYTES_PER_S = 20_000
PIECES_PER_S = 20
LINE_BYTES = 16_384
BUSY_RATE, SLOW_RATE = 20, 200
LAST_CHUNK = b"0\r\n\r\n"
WORDS_OF_AN_END = ("service.stopped",)
MOST = {
    "idle_page_kb_per_s": 0.1,
    "busy_page_kb_per_s": 6.0,
    "slow_reader_lag_s": 3.0,
    "beside_slow_ms_p99": 100.0,
    "drain_s": 2.5,
    "drain_cut_off": 0.0,
    "drain_lines_on_stderr": 0.0,
}


class EndReader(Reader):
    """A reader that notes when and how its stream ended: with its last chunk."""

    ended_at = 0.0
    tail = b""

    def data_received(self, data: bytes) -> None:
        """Count it, and keep the last bytes and their time."""
        super().data_received(data)
        self.tail = (self.tail + data)[-len(LAST_CHUNK) :]
        self.ended_at = time.monotonic()


def head_of(url: str, path: str) -> bytes:
    """Return the request of a stream."""
    return f"GET {path} HTTP/1.1\r\nHost: {url.removeprefix('http://')}\r\n\r\n".encode()


async def opened(api: ApiProcess, path: str, *, looks: bool = False) -> EndReader:
    """Return a reader that follows."""
    reader = EndReader(head_of(api.url, path), looks=looks)
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: reader, "127.0.0.1", api.port)
    return reader


@contextlib.asynccontextmanager
async def load(log: RunningLog, api: ApiProcess, rate: int) -> AsyncIterator[None]:
    """Let ``rate`` events a second come, of several batches in turn."""
    command = (sys.executable, "-m", "bench.relay_load", log.server.url)
    process = await asyncio.create_subprocess_exec(*command, str(TOGETHER), str(rate), "120")
    try:
        await moving(api.url)
        yield
    finally:
        process.kill()
        await process.wait()


async def page_costs(api: ApiProcess, seconds: float) -> float:
    """Return the KB a second that the stream of one page takes, after its first second."""
    reader = await opened(api, DELTAS)
    await asyncio.sleep(1.0)
    before = reader.bytes
    await asyncio.sleep(seconds)
    return (reader.bytes - before) / 1000 / seconds


async def poll_bytes(api: ApiProcess) -> float:
    """Return the size of the answer to a page's poll while nothing has changed."""
    async with httpx.AsyncClient(base_url=api.url) as client:
        tag = (await client.get("/v1/stuck")).headers["etag"]
        answer = await client.get("/v1/stuck", headers={"If-None-Match": tag})
    if answer.status_code != 304:
        raise SystemExit(f"a poll was answered {answer.status_code}, not 304")
    fields = sum(len(name) + len(value) + 4 for name, value in answer.headers.raw)
    return len(b"HTTP/1.1 304 Not Modified\r\n") + fields + 2


async def slow_lags(api: ApiProcess, seconds: float) -> list[tuple[float, float]]:
    """Read at ``SLOW_BYTES_PER_S``; return (when, how old) of each state, in seconds."""
    taken = Reader(b"", looks=True)
    lags: list[tuple[float, float]] = []
    loop = asyncio.get_running_loop()
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LINE_BYTES)  # a slow line holds little
        line.setblocking(False)
        await loop.sock_connect(line, ("127.0.0.1", api.port))
        await loop.sock_sendall(line, head_of(api.url, STATES))
        begun = time.monotonic()
        due = begun
        while due < begun + seconds:
            due += 1 / PIECES_PER_S
            piece = await loop.sock_recv(line, SLOW_BYTES_PER_S // PIECES_PER_S)
            taken.data_received(piece)
            lags += [(time.monotonic() - begun, age / 1000) for age in taken.ages_ms]
            taken.ages_ms.clear()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
    return lags


async def drained(api: ApiProcess) -> dict[str, Metric]:
    """End the API while ``STREAMS`` are open; return how they ended."""
    readers = [await opened(api, DELTAS) for _ in range(STREAMS)]
    async with asyncio.timeout(30):
        while not all(reader.bytes for reader in readers):
            await asyncio.sleep(0.05)
    written = len(api.log())
    begun = time.monotonic()
    await asyncio.to_thread(api.terminate)
    async with asyncio.timeout(10):
        while any(reader.is_open for reader in readers):
            await asyncio.sleep(0.05)
    ends = sorted(reader.ended_at - begun for reader in readers)
    lines = api.log()[written:].splitlines()
    strange = [line for line in lines if not any(word in line for word in WORDS_OF_AN_END)]
    return {
        "drain_s": Metric(ends[-1], "s"),
        "drain_first_s": Metric(ends[0], "s"),
        "drain_median_s": Metric(percentile(ends, 0.5), "s"),
        "drain_cut_off": Metric(sum(reader.tail != LAST_CHUNK for reader in readers), "streams"),
        "drain_lines_on_stderr": Metric(len(strange), "lines"),
    }


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[tuple[RunningLog, ApiProcess]]:
    """Give a log of its own and an API."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as name:
        async with running_log(Path(name)) as log:
            with ApiProcess(Path(name) / "api.log", log.server.url) as api:
                yield log, api


async def of_pages() -> dict[str, Metric]:
    """Measure what a page costs while nothing happens, and while something does."""
    async with served() as (log, api):
        idle, poll = await page_costs(api, IDLE_S), await poll_bytes(api)
        async with load(log, api, BUSY_RATE):
            busy = await page_costs(api, BUSY_S)
    return {
        "idle_page_kb_per_s": Metric(idle, "KB/s"),
        "poll_bytes": Metric(poll, "B"),
        "busy_page_kb_per_s": Metric(busy, "KB/s"),
    }


async def of_readers() -> dict[str, Metric]:
    """Measure a slow reader beside a quick one, and the end of many."""
    async with served() as (log, api):
        async with load(log, api, SLOW_RATE):
            quick = await opened(api, STATES, looks=True)
            lags = await slow_lags(api, SLOW_S)
        return {**lag_metrics(lags, quick.ages_ms), **await drained(api)}


def lag_metrics(lags: list[tuple[float, float]], beside_ms: list[float]) -> dict[str, Metric]:
    """Return how late the slow reader was once its buffers were full, and whether ever later."""
    settled = [(at, lag) for at, lag in lags if at > SLOW_S / 4]
    early = [lag for at, lag in settled if at < SLOW_S / 2]
    late = [lag for at, lag in settled if at > SLOW_S * 3 / 4]
    growth = percentile(late, 0.5) / percentile(early, 0.5)
    return {
        "slow_reader_lag_s": Metric(max(lag for _, lag in settled), "s"),
        "slow_reader_lag_growth": Metric(growth, "x"),
        "beside_slow_ms_p99": Metric(percentile(beside_ms, 0.99), "ms"),
    }


async def measure() -> dict[str, Metric]:
    """Measure all of it."""
    return {**await of_pages(), **await of_readers()}


def missed(metrics: dict[str, Metric]) -> list[str]:
    """Say which marks the figures miss."""
    return [
        f"{name} is {metrics[name].value:.2f}, more than {most:g}"
        for name, most in MOST.items()
        if metrics[name].value > most
    ]
