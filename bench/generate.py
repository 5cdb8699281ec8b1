"""Samples per second of one batch on one generator, beside a bare loop over the same calls."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import httpx
import psutil

from bench.measure import Metric, median, report
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.runtime.settings import load_settings
from millstream.testing.stack import Stack
from millstream_schemas import subjects

SAMPLES = 600
IN_FLIGHT = 64
ROUNDS = 3
BATCH_BOUND_S = 180


def raw(simulated_url: str) -> dict[str, float]:
    """Run the yardstick in a process of its own."""
    script = str(Path(__file__).with_name("raw_litellm.py"))
    done = subprocess.run(
        [sys.executable, script, simulated_url, str(SAMPLES), str(IN_FLIGHT)],
        capture_output=True,
        text=True,
        check=True,
        timeout=BATCH_BOUND_S,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def ours(stack: Stack) -> dict[str, float]:
    """Run one batch and time it by the log: from the first claim to the last sample."""
    generator = psutil.Process(stack.pid("generator-1"))
    before = sum(generator.cpu_times()[:2])
    body = {"target": SAMPLES, "model": "simulated/fast", "concurrency": IN_FLIGHT}
    started = httpx.post(f"{stack.url}/v1/batches", json=body, timeout=10)
    started.raise_for_status()
    batch_id = started.json()["batch"]["id"]

    def is_done() -> bool:
        found = httpx.get(f"{stack.url}/v1/batches/{batch_id}", timeout=10).json()
        return found.get("batch", {}).get("state") == "completed"

    stack.wait_until(is_done, BATCH_BOUND_S, "the batch")
    cpu = sum(generator.cpu_times()[:2]) - before
    seconds = asyncio.run(_seconds(stack.nats_url, batch_id))
    return {
        "samples_per_s": SAMPLES / seconds,
        "cpu_s_per_1000": cpu / SAMPLES * 1000,
        "rss_mb": generator.memory_info().rss / 2**20,
    }


async def _seconds(nats_url: str, batch_id: str) -> float:
    """Return the stream's time between the first and the last slice event of a batch."""
    stamps = []
    async with connected(load_settings(nats_url=nats_url), "bench") as connection:
        async for page in EventLog(connection).history(subjects.all_slices(batch_id)):
            stamps += [stored.stored_at for stored in (page[0], page[-1])]
    return (stamps[-1] - stamps[0]).total_seconds()


def main() -> None:
    """Alternate the two, so that a noisy neighbour meets both."""
    with Stack.start() as stack:
        url = stack.state()["processes"]["simulated"]["url"]
        ours(stack)  # warm: the first batch of a process pays for its imports
        rounds = [(raw(url), ours(stack)) for _ in range(ROUNDS)]
    ratios = [mine["samples_per_s"] / bare["samples_per_s"] for bare, mine in rounds]
    rate = median([mine["samples_per_s"] for _, mine in rounds])
    bare_rate = median([bare["samples_per_s"] for bare, _ in rounds])
    cpu = median([mine["cpu_s_per_1000"] for _, mine in rounds])
    bare_cpu = median([bare["cpu_s_per_1000"] for bare, _ in rounds])
    report(
        "generate",
        {
            "litellm_samples_per_s": Metric(rate, "1/s", "raw_litellm", median(ratios)),
            "litellm_ratio_raw_litellm": Metric(median(ratios), "ratio"),
            "raw_litellm_samples_per_s": Metric(bare_rate, "1/s"),
            "litellm_cpu_s_per_1000": Metric(cpu, "s", "raw_litellm", cpu / bare_cpu),
            "rss_mb": Metric(max(mine["rss_mb"] for _, mine in rounds), "MB"),
        },
    )


if __name__ == "__main__":
    main()
