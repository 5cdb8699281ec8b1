"""What a thousand readers of the live stream cost, beside what other ways of writing to them do.

The API, the load on the log, and the readers are processes of their own. The yardsticks send as
many frames of the same size to as many readers, in the same run: bare transports (the floor), and
the two libraries that people would pick. Processor time is the server's alone. Then come the
figures of `bench.reconnects` and `bench.relay_manners`; ``--only`` takes a part.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import reconnects, relay_manners
from bench.measure import Metric, percentile, report
from bench.relay_load import TOGETHER, moving
from bench.relay_yardsticks import KINDS
from millstream.eventlog.server import free_port
from millstream.testing.nats import running_log
from millstream.testing.service_process import ApiProcess

RATE = 200
FLOOR = "asyncio.Protocol"
READY_S = 60.0
MARKS_MOST = {"latency_ms_p99": 100.0, "cores": 0.5, "kb_per_client": 13.0}
FLOOR_MOST = 2.2
FASTAPI_LEAST = 25.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What the readers saw, and what the server used for it."""

    frames_per_s: float
    frame_bytes: float
    ages_ms: list[float]
    cores: float
    kb_per_client: float
    still_open: int
    reader_lags_ms: list[float]

    @property
    def cpu_ms_per_1000(self) -> float:
        """Milliseconds of processor time per 1,000 frames."""
        return 1e6 * self.cores / self.frames_per_s if self.frames_per_s else float("inf")


async def seen(pid: int, url: str, clients: int, seconds: float) -> Seen:
    """Read ``url`` with many clients for some seconds, once the load is on."""
    process = psutil.Process(pid)
    before = process.memory_info().rss
    reading = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.relay_client", url, str(clients), str(seconds)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=2**26,
    )
    if reading.stdin is None or reading.stdout is None:
        raise RuntimeError("the readers were started without pipes")
    try:
        async with asyncio.timeout(READY_S + seconds):
            if (await reading.stdout.readline()).strip() != b"ready":
                raise SystemExit(f"not every reader was answered by {url}")
            rss = process.memory_info().rss - before
            used = process.cpu_times()
            reading.stdin.write(b"\n")
            found = json.loads(await reading.stdout.readline())
            after = process.cpu_times()
    finally:
        if reading.returncode is None:
            reading.kill()
        await reading.wait()
    cpu_s = after.user + after.system - used.user - used.system
    frames = found["frames_per_s"]
    return Seen(
        frames,
        found["bytes_per_s"] / frames if frames else 0.0,
        found["ages_ms"] or [float("inf")],
        cpu_s / seconds,
        rss / 1000 / clients,
        found["open"],
        found["lags_ms"],
    )


async def of_relay(directory: Path, clients: int, seconds: float, *, batches: int) -> Seen:
    """Measure the relay while ``RATE`` events a second come in, of so many batches in turn."""
    async with running_log(directory) as running:
        url = running.settings.nats_url
        with ApiProcess(directory / "api.log", url) as api:
            stream = f"{api.url}/v1/stream?flavour=deltas"
            if not batches:
                return await seen(api.pid, stream, clients, seconds)
            # Longer than the readers need to connect: they are cut from within it.
            command = [sys.executable, "-m", "bench.relay_load", url, str(batches), str(RATE)]
            with subprocess.Popen([*command, str(seconds + 20)]) as load:
                try:
                    await moving(api.url)
                    return await seen(api.pid, stream, clients, seconds)
                finally:
                    load.kill()


@asynccontextmanager
async def yardstick(
    kind: str, rate: float, size: float, clients: int
) -> AsyncIterator[tuple[int, str]]:
    """Serve a yardstick; give its process id and its address."""
    port = free_port()
    command = [sys.executable, "-m", "bench.relay_yardsticks", kind, str(port)]
    given = (str(rate), str(round(size)), str(clients))
    with subprocess.Popen([*command, *given]) as process:
        try:
            async with asyncio.timeout(READY_S):
                while True:
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                    except OSError:
                        await asyncio.sleep(0.05)
                    else:
                        writer.close()
                        break
            yield process.pid, f"http://127.0.0.1:{port}/"
        finally:
            process.kill()


async def measure(clients: int, seconds: float) -> dict[str, Metric]:
    """Measure the relay, then each yardstick at its rate and size of writes.

    One batch alone changes at most once a flush: each frame is a write of its own, as with the
    yardsticks. Twenty batches are the load that people have; their frames share writes.
    """
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as directory:
        idle, single, relay = [
            await of_relay(Path(directory) / str(batches), clients, length, batches=batches)
            for batches, length in ((0, 1.0), (1, seconds), (TOGETHER, seconds))
        ]
    rate = single.frames_per_s / clients
    others: dict[str, Seen] = {}
    for kind in KINDS:
        async with yardstick(kind, rate, single.frame_bytes, clients) as (pid, url):
            others[kind] = await seen(pid, url, clients, seconds)
    floor, starlette, fastapi = (others[kind] for kind in KINDS)
    floor_ms = floor.cpu_ms_per_1000
    per_core = relay.frames_per_s / relay.cores
    return {
        "latency_ms_p99": Metric(percentile(relay.ages_ms, 0.99), "ms"),
        "latency_ms_p50": Metric(percentile(relay.ages_ms, 0.5), "ms"),
        "reader_lag_ms_p99": Metric(percentile(relay.reader_lags_ms, 0.99), "ms"),
        "cores": Metric(relay.cores, "cores"),
        "frames_per_s": Metric(relay.frames_per_s, "/s"),
        "frame_bytes": Metric(relay.frame_bytes, "B"),
        "open_at_end": Metric(relay.still_open, "clients"),
        "kb_per_client": Metric(idle.kb_per_client, "kB"),
        "single_latency_ms_p99": _beside(
            percentile(single.ages_ms, 0.99), "ms", percentile(floor.ages_ms, 0.99)
        ),
        "single_frames_per_s": _beside(single.frames_per_s, "/s", floor.frames_per_s),
        "cpu_ms_per_1000_writes": _beside(single.cpu_ms_per_1000, "ms", floor_ms),
        "sse_starlette_frames_per_s": _beside(starlette.frames_per_s, "/s", floor.frames_per_s),
        "sse_starlette_cpu_ms_per_1000": _beside(starlette.cpu_ms_per_1000, "ms", floor_ms),
        "fastapi_sse_frames_per_s": _beside(fastapi.frames_per_s, "/s", floor.frames_per_s),
        "fastapi_sse_cpu_ms_per_1000": _beside(fastapi.cpu_ms_per_1000, "ms", floor_ms),
        "frames_per_core": Metric(
            per_core, "/s", "fastapi.sse", per_core * fastapi.cpu_ms_per_1000 / 1e6
        ),
    }


def _beside(value: float, unit: str, floor: float) -> Metric:
    return Metric(value, unit, FLOOR, value / floor if floor else None)


def missed(metrics: dict[str, Metric]) -> list[str]:
    """Say which marks the figures miss."""
    found = [
        f"{name} is {metrics[name].value:.1f}, more than {most:g}"
        for name, most in MARKS_MOST.items()
        if metrics[name].value > most
    ]
    of_floor = metrics["cpu_ms_per_1000_writes"].ratio or 0.0
    if of_floor > FLOOR_MOST:
        found.append(f"a write costs {of_floor:.2f} x the floor, more than {FLOOR_MOST:g}")
    ratio = metrics["frames_per_core"].ratio or 0.0
    if ratio < FASTAPI_LEAST:
        found.append(f"frames per core are {ratio:.1f} x fastapi.sse, less than {FASTAPI_LEAST:g}")
    return found


def main() -> int:
    """Measure; exit code 1 when a figure misses its mark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--only", choices=("cost", "reconnects", "manners"))
    options = parser.parse_args()
    metrics: dict[str, Metric] = {}
    words: list[str] = []
    if options.only in {None, "cost"}:
        metrics |= asyncio.run(measure(options.clients, options.seconds))
        words += missed(metrics)
    if options.only in {None, "reconnects"}:
        metrics |= (found := asyncio.run(reconnects.measure(seed=1)))
        words += reconnects.missed(found)
    if options.only in {None, "manners"}:
        metrics |= (found := asyncio.run(relay_manners.measure()))
        words += relay_manners.missed(found)
    report("relay", metrics)
    for line in words:
        print(f"MISSED: {line}")
    return 1 if words else 0


if __name__ == "__main__":
    sys.exit(main())
