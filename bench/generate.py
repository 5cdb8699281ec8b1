"""Samples per second of one batch on one generator, beside a bare loop over the same calls.

Both lanes: through litellm beside a bare litellm loop, and direct beside a bare aiohttp loop.
"""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from bench.measure import Metric, median, report
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.runtime.settings import load_settings
from millstream.testing.stack import Stack
from millstream_schemas import subjects

ROUNDS = 3
BATCH_BOUND_S = 180
ASK_S = 0.5


@dataclass(frozen=True)
class Lane:
    """One way to the model, with the load that suits it."""

    name: str
    setting: str
    yardstick: str
    samples: int
    in_flight: int


LANES = (
    Lane("litellm", "litellm", "raw_litellm", 600, 64),
    Lane("direct", "auto", "raw_aiohttp", 6000, 256),
)


def raw(lane: Lane, simulated_url: str) -> dict[str, float]:
    """Run the yardstick in a process of its own."""
    script = str(Path(__file__).with_name(f"{lane.yardstick}.py"))
    done = subprocess.run(
        [sys.executable, script, simulated_url, str(lane.samples), str(lane.in_flight)],
        capture_output=True,
        text=True,
        check=True,
        timeout=BATCH_BOUND_S,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def ours(lane: Lane, stack: Stack) -> dict[str, float]:
    """Run one batch and time it by the log: from the first claim to the last sample."""
    generator = psutil.Process(stack.pid("generator-1"))
    before = sum(generator.cpu_times()[:2])
    body = {
        "target": lane.samples,
        "model": "simulated/fast",
        "concurrency": lane.in_flight,
    }
    started = httpx.post(f"{stack.url}/v1/batches", json=body, timeout=10)
    started.raise_for_status()
    batch_id = started.json()["batch"]["id"]

    await_end(stack.url, batch_id)
    cpu = sum(generator.cpu_times()[:2]) - before
    seconds = asyncio.run(_seconds(stack.nats_url, batch_id))
    return {
        "samples_per_s": lane.samples / seconds,
        "cpu_s_per_1000": cpu / lane.samples * 1000,
        "rss_mb": generator.memory_info().rss / 2**20,
    }


def await_end(url: str, batch_id: str) -> None:
    """Return once the batch is completed; asks seldom, since asking costs what is measured."""
    deadline = time.monotonic() + BATCH_BOUND_S
    with httpx.Client(timeout=10) as client:
        while time.monotonic() < deadline:
            found = client.get(f"{url}/v1/batches/{batch_id}").json()
            if found.get("batch", {}).get("state") == "completed":
                return
            time.sleep(ASK_S)
    sys.exit(f"batch {batch_id} did not end within {BATCH_BOUND_S} s")


async def _seconds(nats_url: str, batch_id: str) -> float:
    """Return the stream's time between the first and the last slice event of a batch."""
    stamps = []
    async with connected(load_settings(nats_url=nats_url), "bench") as connection:
        async for page in EventLog(connection).history(subjects.all_slices(batch_id)):
            stamps += [stored.stored_at for stored in (page[0], page[-1])]
    return (stamps[-1] - stamps[0]).total_seconds()


def measure(lane: Lane) -> dict[str, Metric]:
    """Alternate ours and the yardstick, so that a noisy neighbour meets both."""
    with Stack.start(env={"MILLSTREAM_LANE": lane.setting}) as stack:
        url = stack.state()["processes"]["simulated"]["url"]
        ours(lane, stack)  # warm: the first batch of a process pays for its imports
        rounds = [(raw(lane, url), ours(lane, stack)) for _ in range(ROUNDS)]
    ratios = [mine["samples_per_s"] / bare["samples_per_s"] for bare, mine in rounds]
    cpu = median([mine["cpu_s_per_1000"] for _, mine in rounds])
    bare_cpu = median([bare["cpu_s_per_1000"] for bare, _ in rounds])
    name, yardstick = lane.name, lane.yardstick
    rate = median([mine["samples_per_s"] for _, mine in rounds])
    bare_rate = median([bare["samples_per_s"] for bare, _ in rounds])
    return {
        f"{name}_samples_per_s": Metric(rate, "1/s", yardstick, median(ratios)),
        f"{name}_ratio_{yardstick}": Metric(median(ratios), "ratio"),
        f"{yardstick}_samples_per_s": Metric(bare_rate, "1/s"),
        f"{name}_cpu_s_per_1000": Metric(cpu, "s", yardstick, cpu / bare_cpu),
        f"{name}_rss_mb": Metric(max(mine["rss_mb"] for _, mine in rounds), "MB"),
    }


def main() -> None:
    """Measure both lanes."""
    metrics: dict[str, Metric] = {}
    for lane in LANES:
        metrics.update(measure(lane))
    metrics["rss_mb"] = max(
        (metric for name, metric in metrics.items() if name.endswith("_rss_mb")),
        key=lambda metric: metric.value,
    )
    report("generate", metrics)


if __name__ == "__main__":
    main()
