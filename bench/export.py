"""How long one batch of a million samples takes to become a Parquet file, and how much memory.

The read model is loaded directly; the export runs as the child process of a projector runs it,
fetched as a client fetches it. The yardstick is what people would write instead: the same rows in
SQLite, read and written as JSON lines by Python.
"""

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import psutil

from bench.measure import Metric, report
from millstream.jobs.client import local_job
from millstream.jobs.process import JobOrder, running_job
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream_projector import tables
from millstream_projector.changes import as_json
from millstream_projector.jobs.serving import COMMAND
from millstream_projector.opening import FILE, open_store
from millstream_schemas.exports import FORMATS, DatasetCard, ExportFormat, ExportRequest

PARQUET_MOST_S = 8.0
RSS_MOST_MB = 500.0
ROUNDS = 3
POLL_S = 0.02
OTHERS = 10
"""Every tenth row is another batch's, as when two ran side by side."""
_ROWS = {
    "seq": "i + 2",
    "stored_at": "TIMESTAMP '2026-01-01' + INTERVAL (i) MILLISECOND",
    "slice_index": "i // 64",
    "slot": "i",
    "attempt": "1",
    "node": "'node-1'",
    "topic": "'topic ' || (i % 17)",
    "area": "'Law'",
    "difficulty": "'basic'",
    "sample_type": "'case_analysis'",
    "model": "'simulated/fast'",
    "provider": "'simulated'",
    "route": "'route.' || left(md5((i % 2)::VARCHAR), 24)",
    "tokens_in": "100 + i % 50",
    "tokens_out": "200 + i % 90",
    "cost_nano_usd": "2000",
    "latency_ms": "random() * 1000",
    "first_token_ms": "random() * 100",
    "request_id": "md5(i::VARCHAR)",
    "prompt_hash": "md5((i * 7)::VARCHAR)",
    "finish_reason": "'stop'",
    "content": (
        """'{"question":"What does ' || md5(i::VARCHAR) || ' say about ' || md5((i + 1)::VARCHAR)"""
        """ || '?","answer":"' || repeat('It says ' || (i % 1000) || ' of it. ', 25)"""
        """ || md5((i + 5)::VARCHAR) || md5((i + 6)::VARCHAR) || '"}'"""
    ),
}


def load(directory: Path, samples: int) -> str:
    """Make a read model with one batch of so many samples, and a tenth of others; its id."""
    script = Script(spec=example_spec(samples, slice_size=64))
    script.start()
    started = script.tape.entries[0].recorded.event
    last = samples + samples // (OTHERS - 1) + 1
    store = open_store(directory, stream="bench", last_sequence=last, memory_limit="2GB")
    store.finish()
    event = {
        "seq": 1,
        "stored_at": "2026-01-01 00:00:00",
        "batch_id": script.batch_id,
        "subject": started.subject,
        "type": "batch.started.v1",
        "payload": started.model_dump_json(),
    }
    rows = {
        **_ROWS,
        "batch_id": f"CASE WHEN i % {OTHERS} = 3 THEN 'batch_2' ELSE '{script.batch_id}' END",
    }
    listed = ", ".join(f"{rows[name]} AS {name}" for name in tables.SAMPLES.columns)
    with duckdb.connect(str(directory / FILE)) as connection:
        connection.execute(tables.EVENTS.insert, [[as_json(event)]])
        connection.execute(
            f"INSERT INTO samples SELECT {listed} FROM range({last - 1}) found(i)"  # noqa: S608
        )
        connection.execute("UPDATE checkpoint SET seq = ?", [last])
    return script.batch_id


async def export(
    directory: Path, batch_id: str, form: ExportFormat, out: Path
) -> tuple[float, float, DatasetCard]:
    """Export once; return the seconds, the most memory of the child in MB, and the card."""
    request = ExportRequest(id=batch_id, format=form)
    order = JobOrder(
        request=request, source=str(directory / FILE), directory=str(directory / "job")
    )
    begun = time.monotonic()
    peak = 0.0
    async with running_job(COMMAND, order) as process:
        child = next(iter(psutil.Process().children()))
        job = await local_job(process)
        with out.open("wb") as file:
            async for piece in job.pieces():
                file.write(piece)
                peak = max(peak, child_peak_mb(child))
        card = DatasetCard.model_validate_json(await job.whole("card"))
    return time.monotonic() - begun, peak, card


def child_peak_mb(child: psutil.Process) -> float:
    """Return the most memory that a process has had, 0 once it has ended."""
    try:
        status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM")]
    return int(lines[0][1]) / 1024 if lines else 0.0


def load_sqlite(directory: Path) -> Path:
    """Put the same samples into SQLite, with an index on the batch."""
    path = directory / "samples.sqlite"
    columns = list(tables.SAMPLES.columns)
    with (
        duckdb.connect(str(directory / FILE), read_only=True) as source,
        sqlite3.connect(path) as target,
    ):
        target.execute(f"CREATE TABLE samples ({', '.join(columns)})")
        found = source.execute("SELECT * REPLACE (stored_at::VARCHAR AS stored_at) FROM samples")
        marks = ", ".join("?" * len(columns))
        while rows := found.fetchmany(50_000):
            target.executemany(f"INSERT INTO samples VALUES ({marks})", rows)  # noqa: S608
        target.execute("CREATE INDEX by_batch ON samples (batch_id, seq)")
    return path


def write_lines(path: Path, batch_id: str, out: Path) -> float:
    """Write a batch of the SQLite file as JSON lines; return the seconds."""
    begun = time.monotonic()
    with sqlite3.connect(path) as source, out.open("w", encoding="utf-8") as file:
        found = source.execute("SELECT * FROM samples WHERE batch_id = ? ORDER BY seq", [batch_id])
        names = [column[0] for column in found.description]
        for row in found:
            provenance = dict(zip(names, row, strict=True))
            content = json.loads(provenance.pop("content"))
            file.write(json.dumps({**content, "provenance": provenance}) + "\n")
    return time.monotonic() - begun


async def measure(samples: int) -> dict[str, Metric]:
    """Load, export in every format, and let the yardstick do the same."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as name:
        directory = Path(name)
        batch_id = load(directory, samples)
        seconds: dict[str, float] = {}
        peak = 0.0
        for form, rounds in zip(FORMATS, (ROUNDS, 1, 1), strict=True):
            out = directory / f"out.{form}"
            for _ in range(rounds):
                took, used, card = await export(directory, batch_id, form, out)
                if card.samples != samples:
                    raise SystemExit(f"{card.samples} samples were exported, not {samples}")
                seconds[form] = min(took, seconds.get(form, took))
                peak = max(peak, used)
        path = await asyncio.to_thread(load_sqlite, directory)
        theirs = await asyncio.to_thread(write_lines, path, batch_id, directory / "theirs.jsonl")
        size = (directory / "out.parquet").stat().st_size
    scale = 1_000_000 / samples
    yardstick = "SQLite + json lines"
    return {
        "parquet_s_1m": Metric(
            seconds["parquet"] * scale, "s", yardstick, seconds["parquet"] / theirs
        ),
        "jsonl_s_1m": Metric(seconds["jsonl"] * scale, "s", yardstick, seconds["jsonl"] / theirs),
        "hf_s_1m": Metric(seconds["hf"] * scale, "s", yardstick, seconds["hf"] / theirs),
        "rss_mb": Metric(peak, "MB"),
        "parquet_bytes_per_sample": Metric(size / samples, "B"),
        "yardstick_s_1m": Metric(theirs * scale, "s"),
        "samples": Metric(samples, "samples"),
    }


def main() -> int:
    """Measure; exit code 1 when a figure misses its mark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    metrics = asyncio.run(measure(parser.parse_args().samples))
    report("export", metrics)
    missed = [
        words
        for words, is_missed in (
            ("parquet_s_1m is over 8", metrics["parquet_s_1m"].value > PARQUET_MOST_S),
            ("rss_mb is over 500", metrics["rss_mb"].value > RSS_MOST_MB),
        )
        if is_missed
    ]
    for words in missed:
        print(f"MISSED: {words}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
