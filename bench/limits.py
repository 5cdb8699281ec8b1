"""Eight generators, one route with a limit of requests per minute: is it kept, is it used?

The model server counts what arrives, in a process of its own. Half-way one node is killed and
comes back, so that leases are lost too.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from bench.measure import Metric, report
from millstream.domain.decide import Stamp
from millstream.runtime.clock import new_batch_id, new_id, utc_now
from millstream.testing.examples import example_spec
from millstream.testing.fleet import Fleet
from millstream_schemas.control import BatchStarted
from millstream_schemas.envelope import Actor
from millstream_schemas.routes import Route

WINDOW_S = 60.0
OVER_MOST_PERCENT = 1.0
USED_LEAST_PERCENT = 90.0


async def run(options: argparse.Namespace) -> list[float]:
    """Run one batch on all nodes; return when each call arrived at the server."""
    target = int(options.rpm * options.seconds / 60)
    async with Fleet(options.generators) as fleet:
        batch_id = await start(fleet, target, options)
        await fleet.wait_arrived(batch_id, target // 2, 4 * options.seconds)
        victim = fleet.generators[-1]
        fleet.kill(victim)
        fleet.launch(victim)
        await fleet.wait_final(batch_id, 4 * options.seconds)
        return [call["arrived_at"] for call in await fleet.calls(batch_id)]


async def start(fleet: Fleet, target: int, options: argparse.Namespace) -> str:
    """Start a batch on a route with the limit and return its id."""
    way = Route(
        model="counting/ms-50",
        provider="simulated",
        litellm_model="openai/ms-50",
        api_base=f"{fleet.llm_url}/v1",
        rpm=options.rpm,
    )
    spec = example_spec(target, slice_size=8, concurrency=16 * options.generators)
    batch_id = new_batch_id()
    stamp = Stamp(new_id, utc_now(), Actor(kind="user", id="bench"), "bench", command_id=new_id())
    event = BatchStarted(
        **stamp.control(batch_id),
        spec=spec.model_copy(update={"routes": (way,), "model": way.model}),
        dataset_id=batch_id,
    )
    await fleet.event_log.append(event, expected=0)
    return batch_id


def most_in_window(times: Sequence[float]) -> int:
    """Return the largest number of ``times`` (in order) in any window of 60 s."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] > WINDOW_S:
            first += 1
        most = max(most, last - first + 1)
    return most


def main() -> None:
    """Run and report; ends with 1 when the limit was passed, or too little of it used."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generators", type=int, default=8)
    parser.add_argument("--rpm", type=int, default=600)
    parser.add_argument("--seconds", type=int, default=180, help="how long the batch takes at best")
    options = parser.parse_args()
    times = sorted(asyncio.run(run(options)))
    taken_s = times[-1] - times[0]
    if taken_s < 1.5 * WINDOW_S:
        sys.exit(f"the batch took {taken_s:.0f} s, too short for windows of a minute")
    most = most_in_window(times)
    over = max(0.0, 100.0 * (most / options.rpm - 1))
    used = 100.0 * (len(times) - 1) / (options.rpm / 60 * taken_s)
    report(
        "limits",
        {
            "over_percent": Metric(over, "%"),
            "used_percent": Metric(used, "%"),
            "most_per_minute": Metric(most, "calls", "rpm", most / options.rpm),
            "calls": Metric(len(times), "calls"),
            "nodes": Metric(options.generators, "nodes"),
        },
    )
    if over > OVER_MOST_PERCENT or used < USED_LEAST_PERCENT:
        sys.exit(1)


if __name__ == "__main__":
    main()
