"""How soon a stored event shows in a query, and what that costs the projector.

Events come at a steady rate from a process apart. Stored is the stream's own time, visible the
moment at which a query's answer covers the event; both are times of one machine. The processor
time is taken without the queries that look for freshness, and a first question is one that comes
after a time without any.
"""

import argparse
import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil

from bench.measure import Metric, percentile, report
from bench.sound_log import WRITERS, Filler, by_subject, copies
from bench.sqlite_model import SqliteModel
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import Stored
from millstream.runtime.clock import utc_now
from millstream.runtime.settings import load_settings
from millstream.testing.asking import ask, is_answered
from millstream.testing.nats import RunningLog, running_log
from millstream.testing.service_process import ServiceProcess
from millstream_schemas import subjects

TICK_S = 0.02
SILENCE_S = 2.5
"""Longer than a projector expects another question."""
LOOK_S = 0.005
SHARE_LEAST = 0.97
"""A load that falls short of what it offers tells nothing."""
COMMIT_S = 0.05
MARKS = {"freshness_ms_p99_1000": 100.0, "freshness_ms_p99_5000": 250.0, "cores_1000": 0.4}
READY_S = 60.0


async def offer(url: str, rate: int, seconds: float, seed: int) -> None:
    """Append ``rate`` events a second, a few from each of ``WRITERS`` slices at every tick."""
    batches = [
        by_subject(batch)
        for batch in copies(int(rate * seconds * 1.2) + 8192, seed=seed, first=seed * 100_000)
    ]
    async with connected(load_settings(nats_url=url), "load") as connection:
        filler = Filler(EventLog(connection))
        for first, *_ in batches:
            await filler.append(*first)
        rounds = _rounds([slices for _, *slices, _ in batches])
        begun, sent = time.monotonic(), 0
        while (due := time.monotonic() - begun) < seconds:
            wanted = int(due * rate) - sent
            parts: dict[str, list[bytes]] = {}
            for _ in range(wanted):
                subject, payload = next(rounds)
                parts.setdefault(subject, []).append(payload)
            async with asyncio.TaskGroup() as tasks:
                for subject, payloads in parts.items():
                    tasks.create_task(filler.append(subject, payloads))
            sent += wanted
            left = TICK_S - (time.monotonic() - begun - due)
            await asyncio.sleep(max(0.0, left))
        share = sent / rate / (time.monotonic() - begun)
        if share < SHARE_LEAST:
            raise SystemExit(f"the load reached {share:.0%} of {rate:,} events/s")


def _rounds(batches: list[list[tuple[str, list[bytes]]]]) -> Iterator[tuple[str, bytes]]:
    """Give the events of some slices in turn, then those of the next ones."""
    for slices in batches:
        for start in range(0, len(slices), WRITERS):
            together = [(subject, iter(payloads)) for subject, payloads in slices[start:][:WRITERS]]
            while together:
                for pair in list(together):
                    payload = next(pair[1], None)
                    if payload is None:
                        together.remove(pair)
                    else:
                        yield pair[0], payload


@contextlib.asynccontextmanager
async def loaded(
    running: RunningLog, rate: int, seconds: float, seed: int
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Give the process that appends ``rate`` events a second for ``seconds``, then ends."""
    command = [sys.executable, "-m", "bench.project", "--offer", str(rate), str(seconds)]
    command += [str(seed), running.settings.nats_url]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()


async def freshness(running: RunningLog, rate: int, seconds: float, seed: int) -> list[float]:
    """Return how many ms after its storage each event of a load was visible."""
    log = running.event_log
    after = (await log.head()).last
    seen: list[tuple[int, float]] = []
    async with loaded(running, rate, seconds, seed) as process:
        while process.poll() is None or seen[-1][0] < (await log.head()).last:
            answer = await ask(log, "stuck")
            seen.append((answer.as_of, utc_now().timestamp()))
            await asyncio.sleep(LOOK_S)
        if process.returncode:
            raise SystemExit(1)
    found: list[float] = []
    # The watchdog may have added a note since the last look.
    async for page in log.history(subjects.ALL_EVENTS, after=after, until=seen[-1][0]):
        for stored in page:
            place = bisect_left(seen, (stored.sequence, 0.0))
            found.append((seen[place][1] - stored.stored_at.timestamp()) * 1e3)
    return found


async def first_question(running: RunningLog, rate: int, seconds: float, seed: int) -> float:
    """Return how many ms a question takes, at most, that comes after a time without one.

    Raises:
        SystemExit: an answer did not cover all that was stored before it was asked for.
    """
    log = running.event_log
    took: list[float] = []
    async with loaded(running, rate, seconds, seed) as process:
        while process.poll() is None:
            await asyncio.sleep(SILENCE_S)
            head = (await log.head()).last
            begun = time.monotonic()
            answer = await ask(log, "stuck")
            took.append((time.monotonic() - begun) * 1e3)
            if answer.as_of < head:
                raise SystemExit(f"as of {answer.as_of} where {head} was stored: no figures")
        if process.returncode:
            raise SystemExit(1)
    return max(took)


async def cores(running: RunningLog, pid: int, rate: int, seconds: float, seed: int) -> float:
    """Return how much of a core the projector uses while a load comes in."""
    log = running.event_log
    before = (await log.head()).last
    async with loaded(running, rate, seconds, seed) as process:
        while (await log.head()).last < before + rate:
            await asyncio.sleep(0.1)
        used, begun = _cpu_s(pid), time.monotonic()
        while process.poll() is None:
            await asyncio.sleep(0.1)
        if process.returncode:
            raise SystemExit(1)
        return (_cpu_s(pid) - used) / (time.monotonic() - begun)


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def sqlite_cores(path: Path, rate: int, seconds: float) -> float:
    """Return the same for SQLite, which is handed the events without a stream."""
    log = [stored for batch in copies(int(rate * seconds)) for stored in batch]
    size = int(rate * COMMIT_S)
    model = SqliteModel(path)
    begun = time.process_time()
    chunks: list[list[Stored]] = [log[at : at + size] for at in range(0, len(log), size)]
    for chunk in chunks:
        model.advance(chunk)
    model.close()
    return (time.process_time() - begun) / (len(log) / rate)


async def measure(seconds: float) -> dict[str, Metric]:
    """Measure at 1,000 and 5,000 events a second."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as directory:
        path = Path(directory)
        async with running_log(path) as running:
            settings = {"nats_url": running.settings.nats_url, "data_dir": str(path / "views")}
            with ServiceProcess("millstream_projector", path / "log", **settings) as projector:
                async with asyncio.timeout(READY_S):
                    while not await is_answered(running.event_log):
                        await asyncio.sleep(0.1)
                slow = await freshness(running, 1_000, seconds, 1)
                used = await cores(running, projector.pid, 1_000, seconds, 2)
                quick = await freshness(running, 5_000, seconds, 3)
                first = await first_question(running, 1_000, seconds, 4)
        other = sqlite_cores(path / "model.sqlite", 1_000, seconds)
    return {
        "freshness_ms_p99_1000": Metric(percentile(slow, 0.99), "ms"),
        "freshness_ms_p50_1000": Metric(percentile(slow, 0.5), "ms"),
        "freshness_ms_p99_5000": Metric(percentile(quick, 0.99), "ms"),
        "freshness_ms_p50_5000": Metric(percentile(quick, 0.5), "ms"),
        "first_question_ms_max": Metric(first, "ms"),
        "cores_1000": Metric(used, "cores", "sqlite executemany, no stream", used / other),
    }


def main() -> int:
    """Measure; exit code 1 when a figure misses its mark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--offer", nargs=4, metavar=("RATE", "SECONDS", "SEED", "URL"))
    options = parser.parse_args()
    if options.offer:
        rate, seconds, seed, url = options.offer
        asyncio.run(offer(url, int(rate), float(seconds), int(seed)))
        return 0
    metrics = asyncio.run(measure(options.seconds))
    report("project", metrics)
    missed = [
        f"{name} is over {mark:g}" for name, mark in MARKS.items() if metrics[name].value > mark
    ]
    for words in missed:
        print(f"MISSED: {words}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
