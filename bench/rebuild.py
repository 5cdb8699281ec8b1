"""How quickly the read model is made anew, from memory and from the stream, and how large it is.

From memory: the events lie there and the processes that fold stand ready; the time is that of the
fold and of DuckDB with the last checkpoint. From the stream:
`python -m millstream_projector.audit.rebuild` from start to end.

`--growth 10000000` measures memory instead, with a log of that length which nobody holds.
"""

import argparse
import asyncio
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.measure import Metric, report
from bench.memory import Peak
from bench.sound_log import Filler, copies
from bench.sqlite_model import SqliteModel
from millstream.eventlog.stored import Stored
from millstream.testing.nats import running_log
from millstream_projector.audit.split import Split, parts_for
from millstream_projector.opening import FILE, open_store

CHUNK = 4_000
REPORT = 500_000
TRANSACTION = 10_000
STREAM = "2026-01-01T00:00:00Z"
MARKS = {"memory_events_per_s": 100_000, "stream_events_per_s": 30_000}
BYTES_MOST = 450
RSS_MOST_MB = 2_048
SQLITE = "sqlite executemany"
REBUILD = "millstream_projector.audit.rebuild"


async def from_memory(path: Path, log: Sequence[Stored]) -> float:
    """Fold ``log`` into a fresh file; return the seconds."""
    store = open_store(path, stream=STREAM, last_sequence=len(log))
    async with Split(store, parts_for(len(log))) as split:
        await split.ready()
        begun = time.monotonic()
        for start in range(0, len(log), CHUNK):
            await split.take(log[start : start + CHUNK])
        if await split.finish() != len(log):
            raise SystemExit(f"folded to {store.checkpoint}, not to {len(log)}")
        store.finish()
        return time.monotonic() - begun


async def growth(path: Path, events: int) -> dict[str, Metric]:
    """Fold a long log, made as it is folded; print the memory of all processes on the way."""
    store = open_store(path, stream=STREAM, last_sequence=2 * events)
    with Peak(os.getpid()) as peak:
        async with Split(store, parts_for(events)) as split:
            folded, told = 0, 0
            for batch in copies(events):
                await split.take(batch)
                folded = batch[-1].sequence
                if folded // REPORT > told:
                    told = folded // REPORT
                    print(f"{folded:12,} events {peak.now_mb():8.0f} MB now", flush=True)
            folded = await split.finish()
        store.finish()
    size = (path / FILE).stat().st_size / folded
    return {
        "rss_mb": Metric(peak.most_mb, "MB"),
        "bytes_per_event": Metric(size, "B"),
        "events": Metric(folded, "events"),
    }


def with_sqlite(path: Path, log: Sequence[Stored]) -> float:
    """Store the same rows as others would; return the seconds."""
    begun = time.monotonic()
    model = SqliteModel(path)
    for start in range(0, len(log), TRANSACTION):
        model.advance(log[start : start + TRANSACTION])
    model.close()
    return time.monotonic() - begun


async def from_stream(path: Path, events: int) -> tuple[float, float, int]:
    """Fill a stream and rebuild from it; return seconds, peak memory in MB, and events."""
    async with running_log(path) as running:
        filler = Filler(running.event_log)
        last = 0
        for batch in copies(events):
            last = await filler.append_batch(batch)
        begun = time.monotonic()
        process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                REBUILD,
                str(path / "rebuilt"),
            ],
            env={**os.environ, "MILLSTREAM_NATS_URL": running.settings.nats_url},
        )
        with Peak(process.pid) as peak:
            code = await asyncio.to_thread(process.wait)
            seconds = time.monotonic() - begun
        if code:
            raise SystemExit(f"the rebuild ended with exit code {code}")
        return seconds, peak.most_mb, last


def measure(events: int) -> dict[str, Metric]:
    """Measure all of it."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as directory:
        path = Path(directory)
        stream_s, rss_mb, streamed = asyncio.run(from_stream(path, events))
        log = [stored for batch in copies(events) for stored in batch]
        gc.freeze()
        sqlite_s = with_sqlite(path / "model.sqlite", log)
        memory_s = min(asyncio.run(from_memory(path / name, log)) for name in ("one", "two"))
        size = (path / "one" / FILE).stat().st_size / len(log)
        sqlite_size = (path / "model.sqlite").stat().st_size / len(log)
    payload = sum(len(stored.payload) for stored in log) / len(log)
    return {
        "memory_events_per_s": Metric(len(log) / memory_s, "/s", SQLITE, sqlite_s / memory_s),
        "stream_events_per_s": Metric(streamed / stream_s, "/s"),
        "rss_mb": Metric(rss_mb, "MB"),
        "bytes_per_event": Metric(size, "B", SQLITE, size / sqlite_size),
        "payload_bytes": Metric(payload, "B"),
        "events": Metric(len(log), "events"),
    }


def main() -> int:
    """Measure; exit code 1 when a figure misses its mark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--growth", type=int, metavar="EVENTS")
    options = parser.parse_args()
    if options.growth:
        with tempfile.TemporaryDirectory(prefix="millstream-bench-") as directory:
            metrics = asyncio.run(growth(Path(directory), options.growth))
    else:
        metrics = measure(options.events)
    report("rebuild-growth" if options.growth else "rebuild", metrics)
    missed = [
        f"{name} is under {mark}"
        for name, mark in MARKS.items()
        if name in metrics and metrics[name].value < mark
    ]
    if metrics["bytes_per_event"].value > BYTES_MOST:
        missed.append(f"bytes_per_event is over {BYTES_MOST}")
    if metrics["rss_mb"].value > RSS_MOST_MB:
        missed.append(f"rss_mb is over {RSS_MOST_MB}")
    for words in missed:
        print(f"MISSED: {words}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
