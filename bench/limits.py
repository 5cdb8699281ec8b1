"""Generators that share one route's limit: is it kept, is it used?

``pace``: eight of them, requests per minute; half-way one node is killed and comes back, so that
leases are lost too. ``permits``: three of them, calls in flight, each of a second. The model server
counts what arrives, in a process of its own.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from itertools import accumulate

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
PERMITTED_NODES = 3
PERMITTED_BATCHES = 4

Times = tuple[float, float]
"""When a call began and when it ended."""


async def run_paced(options: argparse.Namespace) -> list[float]:
    """Run one batch on all nodes; return when each call arrived at the server."""
    target = int(options.rpm * options.seconds / 60)
    async with Fleet(options.generators) as fleet:
        batch_id = await start(fleet, target, model="ms-50", rpm=options.rpm)
        await fleet.wait_arrived(batch_id, target // 2, 4 * options.seconds)
        victim = fleet.generators[-1]
        fleet.kill(victim)
        fleet.launch(victim)
        await fleet.wait_final(batch_id, 4 * options.seconds)
        return [call["arrived_at"] for call in await fleet.calls(batch_id)]


async def run_permitted(options: argparse.Namespace) -> list[Times]:
    """Run batches on all nodes; return when each call began and ended at the server."""
    target = options.permits * options.permit_seconds // PERMITTED_BATCHES
    async with Fleet(PERMITTED_NODES) as fleet:
        ids = [
            await start(fleet, target, model="ms-1000", max_concurrency=options.permits)
            for _ in range(PERMITTED_BATCHES)
        ]
        for batch_id in ids:
            await fleet.wait_final(batch_id, 4 * options.permit_seconds)
        calls = [call for batch_id in ids for call in await fleet.calls(batch_id)]
        return sorted((call["arrived_at"], call["ended_at"]) for call in calls)


async def start(fleet: Fleet, target: int, *, model: str, **limit: int) -> str:
    """Start a batch on a route with the limit and return its id."""
    way = Route.model_validate(
        {
            "model": f"counting/{model}",
            "provider": "simulated",
            "litellm_model": f"openai/{model}",
            "api_base": f"{fleet.llm_url}/v1",
            **limit,
        }
    )
    spec = example_spec(target, slice_size=8, concurrency=16 * len(fleet.generators))
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


def most_at_once(calls: Sequence[Times]) -> int:
    """Return how many calls were open at the same time at most."""
    moments = [*((begun, 1) for begun, _ in calls), *((ended, -1) for _, ended in calls)]
    return max(accumulate(step for _, step in sorted(moments)))


def mean_at_once(calls: Sequence[Times]) -> float:
    """Return how many calls were open on average, from the first one's end to the last one's start.

    Before that the nodes come to know each other, and after it there is nothing left to call.
    """
    since, until = min(ended for _, ended in calls), max(begun for begun, _ in calls)
    open_s = sum(max(0.0, min(ended, until) - max(begun, since)) for begun, ended in calls)
    return open_s / (until - since)


def pace(options: argparse.Namespace) -> bool:
    """Report on requests per minute; tell whether the limit was kept and used."""
    times = sorted(asyncio.run(run_paced(options)))
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
    return bool(over <= OVER_MOST_PERCENT and used >= USED_LEAST_PERCENT)


def permits(options: argparse.Namespace) -> bool:
    """Report on calls in flight; tell whether the limit was kept and used."""
    calls = asyncio.run(run_permitted(options))
    most, used = most_at_once(calls), 100.0 * mean_at_once(calls) / options.permits
    report(
        "limits_permits",
        {
            "used_percent": Metric(used, "%"),
            "most_at_once": Metric(most, "calls", "permits", most / options.permits),
            "calls": Metric(len(calls), "calls"),
            "nodes": Metric(PERMITTED_NODES, "nodes"),
        },
    )
    return bool(most <= options.permits and used >= USED_LEAST_PERCENT)


LANES = {"pace": pace, "permits": permits}


def main() -> None:
    """Run and report; ends with 1 when a limit was passed, or too little of it used."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=LANES)
    parser.add_argument("--generators", type=int, default=8)
    parser.add_argument("--rpm", type=int, default=600)
    parser.add_argument("--seconds", type=int, default=180, help="how long the batch takes at best")
    parser.add_argument("--permits", type=int, default=5, help="calls in flight")
    parser.add_argument("--permit-seconds", type=int, default=24)
    options = parser.parse_args()
    lanes = [run for name, run in LANES.items() if options.only in {None, name}]
    kept = [lane(options) for lane in lanes]
    if not all(kept):
        sys.exit(1)


if __name__ == "__main__":
    main()
