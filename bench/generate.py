"""Samples per second of one generator process, beside a bare loop over the same calls.

Both lanes: through litellm beside a bare litellm loop, and direct beside a bare aiohttp loop. On
the machine run the log's server, a lean server of the simulated model's answers and the generator,
each in a process of its own; a sample counts once it is acknowledged durably. Memory is told of
both lanes at 256 calls in flight, its growth of the direct one; as of an installed Millstream by
`uv run --isolated --no-dev python -m bench.generate`. At last two generators beside one, with a
model of 2 s.
"""

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from bench.generators import (
    ASK_S,
    BATCH_BOUND_S,
    Bench,
    Lane,
    await_end,
    rss_mb,
    running,
    start,
)
from bench.measure import Metric, median, report
from bench.two_generators import measure_scaling
from millstream.errors import LogUnavailableError
from millstream_schemas import subjects

ROUNDS = 3
WARM_SAMPLES = 50_000
"""As many as the generator keeps for the search of duplicates."""
GROWTH_SAMPLES = 40_000
"""Growth is measured over so many further samples of one batch, and told for 100,000."""
RSS_MOST_MB = 200.0
FULL = 256
"""Calls in flight while memory is measured."""

LITELLM = Lane("litellm", "litellm", "raw_litellm", 600, 64, family="hosted_vllm")
DIRECT = Lane("direct", "auto", "raw_aiohttp", 12_000, FULL)


def raw(lane: Lane, simulated_url: str) -> dict[str, float]:
    """Run the yardstick in a process of its own."""
    script = str(Path(__file__).with_name(f"{lane.yardstick}.py"))
    done = subprocess.run(
        [sys.executable, script, simulated_url, str(lane.samples), str(lane.in_flight)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=BATCH_BOUND_S,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


async def ours(lane: Lane, bench: Bench) -> dict[str, float]:
    """Run one batch and time it by the log: from the first slice event to the last."""
    before = bench.cpu_s
    batch_id = await start(bench.event_log, lane)
    most = await await_end(bench, batch_id)
    cpu = bench.cpu_s - before
    stamps = []
    async for page in bench.event_log.history(subjects.all_slices(batch_id)):
        stamps += [stored.stored_at for stored in (page[0], page[-1])]
    return {
        "samples_per_s": lane.samples / (stamps[-1] - stamps[0]).total_seconds(),
        "cpu_s_per_1000": cpu / lane.samples * 1000,
        "rss_mb": most,
    }


async def last_sequence(bench: Bench) -> int:
    """Return how many events the log holds."""
    while True:
        try:
            return (await bench.event_log.head()).last
        except LogUnavailableError:
            await asyncio.sleep(ASK_S)


async def growth_mb_per_100k(bench: Bench) -> float:
    """Run one long batch and return by how much memory grows once it is warm."""
    first = await last_sequence(bench)
    samples = WARM_SAMPLES + GROWTH_SAMPLES
    batch_id = await start(bench.event_log, replace(DIRECT, samples=samples))
    async with asyncio.timeout(BATCH_BOUND_S):
        while (stored := await last_sequence(bench) - first) < WARM_SAMPLES:
            await asyncio.sleep(ASK_S)
    begun = rss_mb(bench)
    most = await await_end(bench, batch_id)
    return (most - begun) / (samples - stored) * 100_000


async def measure(lane: Lane) -> dict[str, Metric]:
    """Alternate ours and the yardstick, so that a noisy neighbour meets both."""
    growth = 0.0
    full = replace(lane, in_flight=FULL, samples=max(lane.samples, 4 * FULL))
    async with running(lane) as bench:
        await ours(lane, bench)  # warm: the first batch of a process pays for its imports
        rounds = []
        for _ in range(ROUNDS):
            bare = await asyncio.to_thread(raw, lane, bench.simulated_url)
            rounds.append((bare, await ours(lane, bench)))
        most = max([mine["rss_mb"] for _, mine in rounds] + [(await ours(full, bench))["rss_mb"]])
        if lane is DIRECT:
            growth = await growth_mb_per_100k(bench)
    name, yardstick = lane.name, lane.yardstick
    ratio = median([mine["samples_per_s"] / bare["samples_per_s"] for bare, mine in rounds])
    rate = median([mine["samples_per_s"] for _, mine in rounds])
    cpu = median([mine["cpu_s_per_1000"] for _, mine in rounds])
    bare_cpu = median([bare["cpu_s_per_1000"] for bare, _ in rounds])
    found = {
        f"{name}_samples_per_s": Metric(rate, "1/s", yardstick, ratio),
        f"{name}_ratio_{yardstick}": Metric(ratio, "ratio"),
        f"{yardstick}_samples_per_s": Metric(
            median([bare["samples_per_s"] for bare, _ in rounds]), "1/s"
        ),
        f"{name}_cpu_s_per_1000": Metric(cpu, "s", yardstick, cpu / bare_cpu),
    }
    prefix = "" if lane is DIRECT else f"{name}_"
    found[f"{prefix}rss_mb"] = Metric(most, "MB", f"limit of {RSS_MOST_MB:g}", most / RSS_MOST_MB)
    if lane is DIRECT:
        found["growth_mb_per_100k"] = Metric(growth, "MB")
    return found


PARTS: dict[str, Callable[[], Awaitable[dict[str, Metric]]]] = {
    "litellm": lambda: measure(LITELLM),
    "direct": lambda: measure(DIRECT),
    "two": measure_scaling,
}


async def run(parts: list[str]) -> dict[str, Metric]:
    """Measure the named parts, one after the other."""
    metrics: dict[str, Metric] = {}
    for part in parts:
        metrics.update(await PARTS[part]())
    return metrics


def main() -> None:
    """Measure both lanes, and two generators."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="one part of it")
    options = parser.parse_args()
    report("generate", asyncio.run(run([options.only] if options.only else [*PARTS])))


if __name__ == "__main__":
    main()
