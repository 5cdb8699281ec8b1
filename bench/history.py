"""How fast the views answer over a million samples, and over ten with ``--full``.

Rows are loaded directly into the read model of a stream that begins after them. The API and the
projector are processes of their own, and so is the load: 2,000 events a second while a million
samples are asked about, none while ten million are. Pages are asked for as people look through
them: sorted, filtered, searched, the next one. SQLite with indexes of its own answers the same
questions in this process, without HTTP, from the same rows, under the same load.
"""

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench.history_load import RATE, begin_after
from bench.history_rows import copy_to_sqlite, fill, stride_of
from bench.measure import Metric, end, percentile, report
from millstream.testing.asking import ask, is_answered
from millstream.testing.nats import RunningLog, running_log
from millstream.testing.service_process import ApiProcess, ServiceProcess

REACHED_LEAST = 0.95
ROUNDS = 60
LIMIT_S = 900.0
BOUNDS = {
    "page_ms_p99_1m": 20.0,
    "page_ms_p99_10m": 50.0,
    "statistics_ms_p99": 100.0,
    "timeline_ms_p99": 100.0,
    "stuck_ms_p99": 50.0,
    "search_ms_p99": 100.0,
    "search_all_s_10m": 5.0,
}

PAGES: tuple[dict[str, str], ...] = (
    {},
    {"sort": "-cost"},
    {"sort": "progress", "model": "provider/model-3"},
    {"state": "stopped", "recipe": "recipe-0"},
    {"text": "model-2"},
    {"topic": "Area 3 - Topic 3", "started_after": "2026-01-01T02:00:00Z"},
)
SQLITE_PAGES: tuple[tuple[str, str], ...] = (
    ("1", "started_seq DESC"),
    ("1", "json_extract(view, '$.counts.cost_nano_usd') DESC"),
    ("model = 'provider/model-3'", "started_seq"),
    ("state = 'stopped' AND recipe = 'recipe-0'", "started_seq DESC"),
    ("model LIKE '%model-2%'", "started_seq DESC"),
    ("topic = 'Area 3 - Topic 3'", "started_seq DESC"),
)
SQLITE_STATISTICS = (
    "SELECT count(*), sum(tokens_in), sum(tokens_out), sum(cost_nano_usd) FROM samples",
    "SELECT difficulty, count(*) FROM samples GROUP BY 1",
    "SELECT area || ' - ' || topic, count(*) FROM samples GROUP BY 1",
    "SELECT sample_type, count(*) FROM samples GROUP BY 1",
    "SELECT model, count(*) FROM samples GROUP BY 1",
)


@dataclass(slots=True)
class Served:
    """The services over one read model, and what asks them."""

    running: RunningLog
    client: httpx.AsyncClient
    batches: int
    times: dict[str, list[float]] = field(default_factory=dict)

    async def timed(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """Return what ``work`` gives, and keep how long it took."""
        begun = time.perf_counter()
        found = await work()
        self.times.setdefault(name, []).append((time.perf_counter() - begun) * 1000)
        return found

    async def get(self, name: str, path: str, **parameters: Any) -> Any:
        """Read ``path``; the time counts under ``name``."""

        async def read() -> Any:
            answer = await self.client.get(path, params=parameters)
            return answer.raise_for_status().json()

        return await self.timed(name, read)


async def serve(
    stack: AsyncExitStack,
    directory: Path,
    batches: int,
    samples: int,
    lite: Path | None = None,
    **settings: str,
) -> Served:
    """Fill a read model (and SQLite at ``lite``), start what answers about it, by ``settings``."""
    running = await stack.enter_async_context(running_log(directory))
    await begin_after(running, batches * stride_of(batches, samples))
    head = await running.event_log.head()
    begun = time.monotonic()
    path = fill(directory, stream=head.created, batches=batches, samples=samples)
    print(f"{samples:,} samples of {batches:,} batches filled in {time.monotonic() - begun:.0f} s")
    if lite is not None:
        begun = time.monotonic()
        copy_to_sqlite(path, lite)
        print(f"copied to SQLite in {time.monotonic() - begun:.0f} s")
    # With a user's name they take the streams as they are: a first sequence can't be updated.
    own = {"nats_url": running.settings.nats_url, "data_dir": str(directory), **settings}
    stack.enter_context(
        ServiceProcess(
            "millstream_projector", directory / "projector.log", **own, nats_user="projector"
        )
    )
    async with asyncio.timeout(60):
        while not await is_answered(running.event_log):
            await asyncio.sleep(0.1)
    api = stack.enter_context(
        ApiProcess(directory / "api.log", running.settings.nats_url, nats_user="api")
    )
    client = await stack.enter_async_context(httpx.AsyncClient(base_url=api.url, timeout=60))
    served = Served(running, client, batches)
    for _ in range(3):  # what is kept in memory is counted with the first question
        await served.get("warm", "/v1/statistics")
        await served.get("warm", "/v1/statistics/timeline")
        await served.get("warm", "/v1/batches")
    return served


async def ask_rounds(served: Served, rounds: int) -> None:
    """Ask everything that is measured, ``rounds`` times."""
    for number in range(rounds):
        page = await served.get("page", "/v1/batches", **PAGES[0])
        await served.get("page", "/v1/batches", cursor=page["next_cursor"])
        for parameters in PAGES[1:]:
            await served.get("page", "/v1/batches", **parameters)
        place = number * served.batches // rounds
        batch_id = f"batch_{1767225600 + place * 6}_{place:08x}"
        found = await served.get("batch", f"/v1/batches/{batch_id}/figures")
        await served.get("samples", f"/v1/batches/{batch_id}/samples", facets=True)
        await served.get("search", f"/v1/batches/{batch_id}/samples", text="bad faith")
        slot = await served.get("slot", f"/v1/batches/{batch_id}/slots/20")
        if not found["error_groups"] or slot["outcome"] != "generated":
            raise SystemExit(f"batch {batch_id} is not answered as it was filled")
        if number % 2 == 0:
            await served.get("statistics", "/v1/statistics")
            await served.get("timeline", "/v1/statistics/timeline")
        await served.timed("stuck", lambda: ask(served.running.event_log, "stuck"))
        await served.get("stuck", "/v1/stuck")


async def search_all(served: Served) -> None:
    """Look through all samples for what none of them holds."""
    page: dict[str, Any] = {"next_cursor": None}
    while page.get("progress") != 1.0:
        wanted = {"text": "nobody says this", "cursor": page["next_cursor"]}
        given = {name: value for name, value in wanted.items() if value is not None}
        page = await served.get("search_step", "/v1/samples/search", **given)


def ask_sqlite(path: Path, rounds: int) -> dict[str, list[float]]:
    """Ask SQLite the same questions: pages with counts per state, and the totals."""
    database = sqlite3.connect(path)
    times: dict[str, list[float]] = {"page": [], "statistics": [], "stuck": []}

    def timed(name: str, statements: Sequence[str]) -> None:
        begun = time.perf_counter()
        for statement in statements:
            for row in database.execute(statement).fetchall():
                if isinstance(row[0], str) and row[0].startswith("{"):
                    json.loads(row[0])
        times[name].append((time.perf_counter() - begun) * 1000)

    facets = ("state", "model", "recipe", "topic")
    for number in range(rounds):
        for where, order in SQLITE_PAGES:
            counts = [
                f"SELECT {axis}, count(*) FROM batches WHERE {where} GROUP BY 1"  # noqa: S608
                for axis in facets
            ]
            page = f"SELECT view FROM batches WHERE {where} ORDER BY {order} LIMIT 50"  # noqa: S608
            timed("page", [*counts, page])
        timed("stuck", ["SELECT view FROM batches WHERE is_stuck"])
        if number < 2:
            timed("statistics", SQLITE_STATISTICS)
    database.close()
    return times


async def measure_loaded(directory: Path) -> dict[str, list[float]]:
    """Return the times of every kind of question while events come in."""
    lite = directory / "rows.sqlite"
    async with AsyncExitStack() as stack:
        served = await serve(stack, directory, 10_000, 1_000_000, lite)
        loader = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.history_load", served.running.settings.nats_url),
            cwd=Path(__file__).parent.parent,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        if loader.stdin is None or loader.stdout is None:
            raise SystemExit("the load has no pipes")
        stack.callback(end, loader)
        await loader.stdout.readline()
        loader.stdin.write(b"begin\n")
        await ask_rounds(served, ROUNDS)
        times = await asyncio.to_thread(ask_sqlite, lite, ROUNDS)
        is_lasting = loader.returncode is None and not loader.stdout.at_eof()
        loader.stdin.write(b"stop\n")
        reached = json.loads(await loader.stdout.readline())["events_per_s"]
        await loader.wait()
    print(f"load: {reached:,.0f} of {RATE:,} events a second were appended")
    if not is_lasting or reached < RATE * REACHED_LEAST:
        raise SystemExit("the load offered was not reached, so nothing is reported")
    return served.times | {f"sqlite_{name}": found for name, found in times.items()}


async def measure_full(directory: Path) -> dict[str, list[float]]:
    """Return the times over ten million samples; nothing is written meanwhile."""
    async with AsyncExitStack() as stack:
        served = await serve(stack, directory, 100_000, 10_000_000)
        await ask_rounds(served, ROUNDS)
        await served.timed("search_all", lambda: search_all(served))
        return served.times


def metrics_of(times: dict[str, list[float]], full: dict[str, list[float]]) -> dict[str, Metric]:
    """Return what the result file holds; ratios above 1 tell that SQLite was quicker."""

    def p99(name: str) -> Metric:
        ours, theirs = percentile(times[name], 0.99), percentile(times[f"sqlite_{name}"], 0.99)
        return Metric(ours, "ms", "sqlite", ours / theirs)

    metrics = {"page_ms_p99_1m": p99("page")}
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        metrics[f"page_ms_{name}_1m"] = Metric(percentile(times["page"], share), "ms")
    if full:
        metrics["page_ms_p99_10m"] = Metric(percentile(full["page"], 0.99), "ms")
    metrics |= {"statistics_ms_p99": p99("statistics"), "stuck_ms_p99": p99("stuck")}
    for name in ("timeline", "search", "batch", "samples", "slot"):
        metrics[f"{name}_ms_p99"] = Metric(percentile(times[name], 0.99), "ms")
    if full:
        metrics["search_all_s_10m"] = Metric(full["search_all"][0] / 1000, "s")
    for name in ("statistics", "timeline", "stuck", "search") if full else ():
        metrics[f"{name}_ms_p99_10m"] = Metric(percentile(full[name], 0.99), "ms")
    return metrics


def missed(metrics: dict[str, Metric]) -> list[str]:
    """Return the figures that are above their bounds."""
    return [
        f"{name} is {metrics[name].value:.1f} {metrics[name].unit}, more than {most:g}"
        for name, most in BOUNDS.items()
        if name in metrics and metrics[name].value > most
    ]


async def measure(*, is_full: bool) -> int:
    """Run all of it; return 1 when a bound is missed."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as directory:
        root = Path(directory)
        async with asyncio.timeout(LIMIT_S):
            (root / "1m").mkdir()
            times = await measure_loaded(root / "1m")
            full: dict[str, list[float]] = {}
            if is_full:
                (root / "10m").mkdir()
                full = await measure_full(root / "10m")
    metrics = metrics_of(times, full)
    report("history", metrics)
    middle = ", ".join(
        f"{name} {percentile(found, 0.5):.1f}" for name, found in times.items() if name != "warm"
    )
    print(f"medians over a million samples with {RATE:,} events a second (ms): {middle}")
    if not is_full:
        print("ten million samples were not asked about: add --full")
    for words in missed(metrics):
        print(words)
    return 1 if missed(metrics) else 0


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="ten million samples too")
    return asyncio.run(measure(is_full=parser.parse_args().full))


if __name__ == "__main__":
    sys.exit(main())
