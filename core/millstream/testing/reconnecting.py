"""Many clients that are cut off and come back over two APIs, one of which is killed and restarted.

Every client of the lossless stream must have every event of the log once, and every client's map
of the batches must be the fold of the log.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from random import Random
from typing import Any

import httpx

from millstream.domain.view import batch_view
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.followers import DELTAS, NAMED, EventFollower, StateFollower
from millstream.testing.histories import ERROR
from millstream.testing.nats import RunningLog, everything, folded
from millstream.testing.service_process import ApiProcess, ServiceProcess
from millstream.testing.tape import Entry
from millstream.testing.waiting import until

UNTOLD = ("last_error", "last_progress_at")
"""What an API that starts in mid-batch may tell otherwise until the next error or outcome: the
tails of the slices do not tell which of their latest errors, and outcomes, came last of all."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many clients of each kind follow how many batches of how many samples.

    ``rate``: events a second, at most. ``bytes_most``: what a client reads before it cuts itself
    off, at most.
    """

    seed: int
    event_clients: int
    state_clients: int
    batches: int
    samples: int
    rate: float
    bytes_most: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it.

    ``frames`` came on the lossless streams; ``reconnects`` were answered, on all. ``broken``
    streams were cut by the kill, and ``replayed`` events read from the log for who was behind what
    an API holds in memory: that both are above 0 tells that the fault was felt.
    """

    frames: int
    reconnects: int
    lost: int
    doubled: int
    altered: int
    wrong_maps: int
    doubled_updates: int
    broken: int
    replayed: int


def played(number: int, chance: Random, samples: int = 24) -> Script:
    """Return the history of one batch: sound, with every kind of end in turn."""
    spec = example_spec(samples, slice_size=6)
    script = Script(batch_id=f"batch_1767225600_{number:08x}", spec=spec)
    script.start()
    for index in range(spec.slices):
        script.claim(index)
        for slot in spec.slots(index):
            script.fail_attempt(slot) if chance.random() < 0.2 else script.generate(slot)
    if number % 3 == 0:
        script.stop("enough")
    elif number % 3 == 1:
        script.request_stop(error=ERROR)
        for index in range(spec.slices):
            script.close(index)
        script.end_stop()
    else:
        for slot in script.open_slots():
            script.generate(slot)
        script.complete()
    return script


async def reconnect(log: RunningLog, directory: Path, plan: Plan) -> Verdict:
    """Do it and judge it; two APIs and a projector run as processes of their own."""
    chance = Random(plan.seed)  # noqa: S311  # a reproducible draw
    url = log.server.url
    with contextlib.ExitStack() as running:
        projector = ServiceProcess(
            "millstream_projector",
            directory / "projector.log",
            nats_url=url,
            data_dir=str(directory / "projector"),
        )
        running.enter_context(projector)
        apis = [
            running.enter_context(ApiProcess(directory / f"api-{name}.log", url))
            for name in ("one", "two")
        ]
        events, states = followers([api.url for api in apis], plan, chance)
        async with httpx.AsyncClient() as client, asyncio.TaskGroup() as tasks:
            following = [tasks.create_task(one.follow(client)) for one in (*events, *states)]
            appending = tasks.create_task(append(log, plan, chance))
            half = plan.batches * plan.samples // 2
            await until(lambda: all(len(one.events) > half for one in events))
            apis[1].kill()
            await asyncio.to_thread(apis[1].launch)
            # Whoever begins at an API that has just started gets what was before it from the log.
            late = EventFollower([apis[1].url], Random(plan.seed), bytes_most=plan.bytes_most)  # noqa: S311
            events.append(late)
            following.append(tasks.create_task(late.follow(client)))
            await appending
            verdict = await _judged(log, events, states)
            for task in following:
                task.cancel()
            replayed = [await _replayed(client, api.url) for api in apis]
    broken = sum(one.broken[apis[1].url] for one in (*events, *states))
    return Verdict(**verdict, broken=broken, replayed=sum(replayed))


def followers(
    urls: Sequence[str], plan: Plan, chance: Random
) -> tuple[list[EventFollower], list[StateFollower]]:
    """Return the clients of a plan, each with chances of its own."""

    def own() -> Random:
        return Random(chance.random())  # noqa: S311  # a reproducible draw

    most = plan.bytes_most
    return (
        [EventFollower(urls, own(), bytes_most=most) for _ in range(plan.event_clients)],
        [
            StateFollower(urls, (NAMED, DELTAS)[number % 2], own(), bytes_most=most)
            for number in range(plan.state_clients)
        ],
    )


async def append(log: RunningLog, plan: Plan, chance: Random) -> None:
    """Append the histories of all batches, one event of each in turn, at the plan's rate."""
    scripts = [played(number, chance, plan.samples) for number in range(plan.batches)]
    placed: dict[str, int] = {}
    begun, sent = time.monotonic(), 0
    for turn in zip_longest(*(script.tape.entries for script in scripts)):
        entries = [entry for entry in turn if entry is not None]
        async with asyncio.TaskGroup() as tasks:
            for entry in entries:
                tasks.create_task(_append(log, entry, placed))
        sent += len(entries)
        await asyncio.sleep(max(0.0, begun + sent / plan.rate - time.monotonic()))


async def _append(log: RunningLog, entry: Entry, placed: dict[str, int]) -> None:
    event = entry.recorded.event
    expected = placed.get(event.subject, 0)
    placed[event.subject] = await log.event_log.append(event, expected=expected)


async def _judged(
    log: RunningLog, events: Sequence[EventFollower], states: Sequence[StateFollower]
) -> dict[str, int]:
    """Compare what everyone has with the log, once each has what it should or gets no more."""
    stored = {one.sequence: one.payload.decode() for one in await everything(log.event_log)}
    fold = await folded(log.event_log)
    wanted = _told(
        {
            batch_id: json.loads(batch_view(state).model_dump_json())
            for batch_id, state in fold.items()
        }
    )

    def is_settled() -> bool:
        has_all = all(one.events and one.events[-1][0] == max(stored) for one in events)
        return has_all and all(_told(one.batches) == wanted for one in states)

    with contextlib.suppress(AssertionError):  # what is missing then is counted below
        await until(is_settled)
    seen = [[sequence for sequence, _ in one.events] for one in events]
    return {
        "frames": sum(map(len, seen)),
        "reconnects": sum(one.connects - 1 for one in (*events, *states)),
        "lost": sum(len(stored.keys() - set(found)) for found in seen),
        "doubled": sum(len(found) - len(set(found)) for found in seen),
        "altered": sum(stored.get(number) != data for one in events for number, data in one.events)
        + sum(found != sorted(found) for found in seen),
        "wrong_maps": sum(_told(one.batches) != wanted for one in states),
        "doubled_updates": sum(
            one.updates != sorted(set(one.updates)) for one in states if one.path == NAMED
        ),
    }


def _told(batches: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        batch_id: {name: value for name, value in view.items() if name not in UNTOLD}
        for batch_id, view in batches.items()
    }


async def _replayed(client: httpx.AsyncClient, url: str) -> int:
    """Return how many events an API has read from the log for who was behind its memory."""
    lines = (await client.get(f"{url}/metrics")).text.splitlines()
    name = "millstream_stream_replayed_events_total "
    return int(float(next(line for line in lines if line.startswith(name)).removeprefix(name)))
