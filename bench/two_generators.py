"""Two generators beside one, each with as many calls in flight as it may have, in steady state.

The model takes 2 s and answers come in waves, so a span of time may hold a wave more or less: what
is compared is what it took from the end of one wave to the end of a later one.
"""

import asyncio
from dataclasses import replace

from bench.generators import Bench, Lane, await_end, running, start
from bench.measure import Metric
from millstream.eventlog.stored import decode
from millstream.runtime.clock import utc_now
from millstream_schemas import subjects
from millstream_schemas.slices import SampleGenerated

IN_FLIGHT = 256
WAVES_BEFORE = 5
"""The first of a process load and compile what later ones find."""
WAVES = 20
WAVES_AFTER = 2
ASK_S = 0.1


def lane(generators: int) -> Lane:
    """Return the load for so many generators: the same for each, however many there are."""
    flight = IN_FLIGHT * generators
    samples = flight * (WAVES_BEFORE + WAVES + WAVES_AFTER)
    return Lane("slow", "auto", "", samples, flight, "slow", generators)


async def steady(generators: int) -> tuple[float, float]:
    """Return samples per second, and seconds of processor time per 1,000 of them."""
    load = lane(generators)
    async with running(load) as bench:
        warm = await start(bench.event_log, replace(load, samples=4 * load.in_flight, model="fast"))
        await await_end(bench, warm)
        batch_id = await start(bench.event_log, load)
        used: list[tuple[float, float]] = []
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(_watch(bench, used))
            await await_end(bench, batch_id)
            watch.cancel()
        at = await _stored_at(bench, batch_id)
    first = load.in_flight * WAVES_BEFORE
    last = first + load.in_flight * WAVES
    begun, ended = at[first - 1], at[last - 1]
    cpu = _used_at(used, ended) - _used_at(used, begun)
    return (last - first) / (ended - begun), cpu / (last - first) * 1000


async def _watch(bench: Bench, used: list[tuple[float, float]]) -> None:
    """Note, time and again, what processor time the generators have taken."""
    while True:
        used.append((utc_now().timestamp(), bench.cpu_s))
        await asyncio.sleep(ASK_S)


def _used_at(used: list[tuple[float, float]], at: float) -> float:
    """Return the processor time that was taken at a moment, as noted next before it."""
    return max(cpu for time, cpu in used if time <= at)


async def _stored_at(bench: Bench, batch_id: str) -> list[float]:
    """Return when each sample was stored, in order."""
    found = []
    async for page in bench.event_log.history(subjects.all_slices(batch_id)):
        for stored in page:
            recorded = decode(stored)
            if recorded is not None and isinstance(recorded.event, SampleGenerated):
                found.append(stored.stored_at.timestamp())
    return sorted(found)


async def measure_scaling() -> dict[str, Metric]:
    """Compare two generators with one, run before them and after: the machine's pace drifts."""
    before, two, after = [await steady(generators) for generators in (1, 2, 1)]
    rate, cpu = ((first + last) / 2 for first, last in zip(before, after, strict=True))
    return {
        "two_generators_samples_per_s": Metric(two[0], "1/s", "one_generator", two[0] / rate),
        "two_generators_cpu_s_per_1000": Metric(two[1], "s", "one_generator", two[1] / cpu),
    }
