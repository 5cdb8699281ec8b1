"""Samples per second of one generator process, beside a bare loop over the same calls.

Both lanes: through litellm beside a bare litellm loop, and direct beside a bare aiohttp loop. On
the machine run the log's server, a lean server of the simulated model's answers and the generator,
each in a process of its own; a sample counts once it is acknowledged durably. Memory is taken from
the direct lane. At last two generators make one batch with a model of 2 s, beside one that makes
half of it.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from bench.measure import Metric, median, report
from millstream.errors import LogUnavailableError, ServerError
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import decode
from millstream.recipes import RecipeBook, recipe_directories
from millstream.runtime.clock import new_batch_id, new_id, new_seed, utc_now
from millstream.testing.nats import ACTOR, running_log
from millstream.testing.service_process import ServiceProcess
from millstream.testing.stack import wait_until
from millstream_schemas import control, subjects
from millstream_schemas.routes import Route

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 3
BATCH_BOUND_S = 600.0
ASK_S = 0.25
WARM_SAMPLES = 50_000
"""As many as the generator keeps for the search of duplicates."""
GROWTH_SAMPLES = 40_000
"""Growth is measured over so many further samples of one batch, and told for 100,000."""


@dataclass(frozen=True)
class Lane:
    """One way to the model, with the load that suits it."""

    name: str
    setting: str
    yardstick: str
    samples: int
    in_flight: int
    model: str = "fast"
    generators: int = 1
    family: str = "openai"
    """Whose calls litellm makes, if it makes them."""


LITELLM = Lane("litellm", "litellm", "raw_litellm", 600, 64, family="hosted_vllm")
DIRECT = Lane("direct", "auto", "raw_aiohttp", 12_000, 256)
SLOW = Lane("slow", "auto", "", 256 * 12, 256, "slow")
SLOW_ON_TWO = Lane("slow_on_two", "auto", "", 512 * 12, 512, "slow", 2)


@dataclass(frozen=True)
class Bench:
    """The running parts: a log, the model's URL and the generators' processes."""

    event_log: EventLog
    simulated_url: str
    generators: tuple[psutil.Process, ...]

    @property
    def cpu_s(self) -> float:
        """Processor time that the generators have taken."""
        return sum(sum(process.cpu_times()[:2]) for process in self.generators)


@contextmanager
def simulated_models(directory: Path) -> Iterator[str]:
    """Give the URL of a model's server in a process of its own."""
    ready = directory / "simulated.json"
    arguments = ["-m", "bench.model_server", "--ready-file", str(ready)]
    with subprocess.Popen([sys.executable, *arguments], cwd=ROOT) as process:
        try:
            wait_until(ready.exists, 60.0, "the model's server")
            yield str(json.loads(ready.read_text(encoding="utf-8"))["url"])
        finally:
            process.terminate()


@asynccontextmanager
async def running(lane: Lane) -> AsyncIterator[Bench]:
    """Give a fresh log, a model and the lane's generators."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as name, ExitStack() as exits:
        directory = Path(name)
        async with running_log(directory) as log:
            url = exits.enter_context(simulated_models(directory))
            processes = [
                exits.enter_context(
                    ServiceProcess(
                        "millstream_generator",
                        directory / f"generator-{number}.log",
                        nats_url=log.settings.nats_url,
                        data_dir=name,
                        simulated_url=url,
                        lane=lane.setting,
                        node=f"bench-{number}",
                    )
                )
                for number in range(lane.generators)
            ]
            yield Bench(log.event_log, url, tuple(psutil.Process(one.pid) for one in processes))
            exits.close()  # the generators end before their log


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


async def start(event_log: EventLog, lane: Lane) -> str:
    """Start a batch as the API does; returns its id."""
    batch_id = new_batch_id()
    model = f"simulated/{lane.model}"
    wire_model = f"{lane.family}/{lane.model}"
    spec = control.BatchSpec(
        recipe=RecipeBook.load(recipe_directories(None)).pin("legal-qa"),
        model=model,
        routes=(Route(model=model, provider="simulated", litellm_model=wire_model),),
        target=lane.samples,
        slice_size=min(control.SLICE_SLOTS_MAX, max(1, -(-lane.samples // 32))),
        seed=new_seed(),
        concurrency=lane.in_flight,
    )
    event = control.BatchStarted(
        id=new_id(),
        source="bench",
        subject=subjects.control(batch_id),
        time=utc_now(),
        actor=ACTOR,
        batch_id=batch_id,
        dataset_id=batch_id,
        spec=spec,
    )
    await event_log.append(event, expected=0)
    return batch_id


async def await_end(bench: Bench, batch_id: str) -> float:
    """Return the most memory (MB) that the generator took until the batch was completed."""
    deadline = time.monotonic() + BATCH_BOUND_S
    most = 0.0
    while time.monotonic() < deadline:
        await asyncio.sleep(ASK_S)
        most = max(most, rss_mb(bench))
        try:
            stored = await bench.event_log.last(subjects.control(batch_id))
        except LogUnavailableError:
            continue  # a busy machine answers late; the deadline stands
        recorded = decode(stored) if stored else None
        if recorded is not None and isinstance(recorded.event, control.BatchCompleted):
            return most
        if recorded is None or not isinstance(recorded.event, control.BatchStarted):
            raise ServerError(f"batch {batch_id} did not complete: {recorded}")
    raise ServerError(f"batch {batch_id} did not end within {BATCH_BOUND_S:g} s")


def rss_mb(bench: Bench) -> float:
    """Return the generator's resident memory."""
    return max(float(process.memory_info().rss) for process in bench.generators) / 2**20


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
    async with running(lane) as bench:
        await ours(lane, bench)  # warm: the first batch of a process pays for its imports
        rounds = []
        for _ in range(ROUNDS):
            bare = await asyncio.to_thread(raw, lane, bench.simulated_url)
            rounds.append((bare, await ours(lane, bench)))
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
    if lane is DIRECT:
        found["rss_mb"] = Metric(max(mine["rss_mb"] for _, mine in rounds), "MB")
        found["growth_mb_per_100k"] = Metric(growth, "MB")
    return found


async def measure_scaling() -> dict[str, Metric]:
    """Compare two generators with one, each with as many calls in flight as it may have."""
    rounds = []
    for lane in (SLOW, SLOW_ON_TWO):
        async with running(lane) as bench:
            for _ in range(lane.generators):  # warm, as in ``measure``
                await ours(replace(lane, samples=lane.in_flight, model="fast"), bench)
            rounds.append(await ours(lane, bench))
    one, two = rounds
    rate, cpu = (two[name] / one[name] for name in ("samples_per_s", "cpu_s_per_1000"))
    return {
        "two_generators_samples_per_s": Metric(two["samples_per_s"], "1/s", "one_generator", rate),
        "two_generators_cpu_s_per_1000": Metric(two["cpu_s_per_1000"], "s", "one_generator", cpu),
    }


def main() -> None:
    """Measure both lanes, and two generators."""
    metrics: dict[str, Metric] = {}
    for lane in (LITELLM, DIRECT):
        metrics.update(asyncio.run(measure(lane)))
    metrics.update(asyncio.run(measure_scaling()))
    report("generate", metrics)


if __name__ == "__main__":
    main()
