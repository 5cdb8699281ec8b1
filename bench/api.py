"""How soon the API answers while a hundred batches run and two hundred people watch.

One machine runs all of `millstream up`: a hundred batches of a model that takes two seconds, and in
turn no readers and two hundred readers of the live stream, in a process of their own. Starts,
stops and pages of the history are asked for one after the other, as one person does.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from bench.measure import Metric, percentile, report
from millstream.runtime.clock import new_id
from millstream.testing.stack import Stack

BATCHES = 100
WATCHERS = 200
CONCURRENCY = 2
ROUNDS = 60
SPANS = 3
READY_S = 60.0
LONG = 24 * 3600.0
BOUND_MS = 100.0
LOSS_MOST = 0.05
PAGES: tuple[dict[str, str], ...] = (
    {},
    {"state": "running"},
    {"sort": "-samples"},
    {"text": "slow"},
)


async def generated(client: httpx.AsyncClient) -> int:
    """Return how many samples there are, as the read model has it."""
    total: int = (await client.get("/v1/statistics")).raise_for_status().json()["total"]
    return total


async def rate(client: httpx.AsyncClient, seconds: float) -> float:
    """Return how many samples a second come."""
    first, begun = await generated(client), time.monotonic()
    await asyncio.sleep(seconds)
    return (await generated(client) - first) / (time.monotonic() - begun)


@asynccontextmanager
async def watchers(url: str) -> AsyncIterator[None]:
    """Let ``WATCHERS`` readers follow the stream."""
    reading = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.relay_client", f"{url}/v1/stream", str(WATCHERS), str(LONG)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(READY_S):
            if reading.stdout is None or (await reading.stdout.readline()).strip() != b"ready":
                raise SystemExit("not every watcher was answered")
        yield
    finally:
        if reading.returncode is None:
            reading.kill()
        await reading.wait()


async def start(client: httpx.AsyncClient, target: int) -> str:
    """Start a batch; return its id."""
    body = {"target": target, "model": "simulated/slow", "concurrency": CONCURRENCY}
    answer = await client.post("/v1/batches", json=body, headers={"Idempotency-Key": new_id()})
    return str(answer.raise_for_status().json()["batch"]["id"])


async def latencies(client: httpx.AsyncClient) -> dict[str, list[float]]:
    """Return how many milliseconds each start, stop and page of the history took."""
    found: dict[str, list[float]] = {"start": [], "stop": [], "history": []}

    def note(name: str, begun: float) -> None:
        found[name].append((time.monotonic() - begun) * 1e3)

    for number in range(ROUNDS):
        begun = time.monotonic()
        batch_id = await start(client, 50)
        note("start", begun)
        begun = time.monotonic()
        (await client.get("/v1/batches", params=PAGES[number % len(PAGES)])).raise_for_status()
        note("history", begun)
        begun = time.monotonic()
        (await client.post(f"/v1/batches/{batch_id}/stop", json={})).raise_for_status()
        note("stop", begun)
    return found


async def measure(url: str, seconds: float) -> dict[str, Metric]:
    """Measure with watchers and without, in turn."""
    alone: list[float] = []
    watched: list[float] = []
    async with httpx.AsyncClient(base_url=url, timeout=30.0) as client:
        for _ in range(BATCHES):
            await start(client, 100_000)
        await rate(client, seconds)
        for _ in range(SPANS):
            alone.append(await rate(client, seconds))
            async with watchers(url):
                watched.append(await rate(client, seconds))
        async with watchers(url):
            found = await latencies(client)
        quiet = await latencies(client)
    metrics = {
        f"{name}_ms_p95": Metric(
            percentile(times, 0.95),
            "ms",
            "no watchers",
            percentile(times, 0.95) / percentile(quiet[name], 0.95),
        )
        for name, times in found.items()
    }
    best, with_watchers = max(alone), max(watched)
    metrics["samples_per_s"] = Metric(
        with_watchers, "/s", "no watchers", with_watchers / best if best else 0.0
    )
    return metrics


def main() -> int:
    """Measure; exit code 1 when a figure misses its mark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    seconds = parser.parse_args().seconds
    with Stack.start() as stack:
        metrics = asyncio.run(measure(stack.url, seconds))
    report("api", metrics)
    missed = [
        f"{name} is {metric.value:.1f}, more than {BOUND_MS:g}"
        for name, metric in metrics.items()
        if name.endswith("_ms_p95") and metric.value > BOUND_MS
    ]
    if (metrics["samples_per_s"].ratio or 0.0) < 1 - LOSS_MOST:
        missed.append(f"watchers slow generation by more than {LOSS_MOST:.0%}")
    for words in missed:
        print(f"MISSED: {words}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
