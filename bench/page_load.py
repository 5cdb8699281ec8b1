"""The load of the page bench, a process of its own: events of many batches in turn.

``python -m bench.page_load URL BATCHES EVENTS`` starts that many batches, appends the first event
of each, and prints their ids as a JSON line. Each line ``RATE SECONDS`` on stdin then appends so
many events a second for so long, and prints as a JSON line how many and how long it took. The
batches hold EVENTS together and never end.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from itertools import islice

from bench.relay_load import flat, in_turn
from bench.sound_log import Filler, by_subject, copies
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.eventlog.nodes import Nodes, keep_beating
from millstream.runtime.clock import utc_now
from millstream.runtime.settings import load_settings
from millstream_schemas.answers import NodeBeat

TICK_S = 0.01
FIRST = 500_000
"""The number of the first batch; no batch that was filled in has one as high."""
NODE = "node-1"
"""Who holds all slices of a sound log."""


async def offer(url: str, together: int, events: int) -> None:
    """Append as stdin says, until it ends."""
    batches = []
    for number in range(together):
        history = copies(1, samples=-(-events // together), first=FIRST + number, seed=number)
        batches.append(by_subject(next(history)))
    beat = NodeBeat(node=NODE, service="generator", started_at=utc_now())
    is_done = asyncio.Event()
    async with connected(load_settings(nats_url=url), "load") as connection:
        event_log = EventLog(connection)
        filler = Filler(event_log)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep_beating(Nodes(event_log.answers), is_done, lambda: beat))
            for first, *_ in batches:
                await filler.append(*first)
            waiting = in_turn([flat(slices) for _, *slices, _ in batches])
            await _append(filler, waiting, together)
            ids = [first[0].split(".")[2] for first, *_ in batches]
            print(json.dumps(ids), flush=True)
            await _follow(filler, waiting)
            is_done.set()


async def _follow(filler: Filler, waiting: Iterator[tuple[str, bytes]]) -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        rate, seconds = map(float, line.split())
        begun, sent = time.monotonic(), 0
        while (due := time.monotonic() - begun) < seconds:
            sent += await _append(filler, waiting, int(due * rate) - sent)
            await asyncio.sleep(max(0.0, TICK_S - (time.monotonic() - begun - due)))
        took = time.monotonic() - begun
        print(json.dumps({"events": sent, "seconds": took}), flush=True)


async def _append(filler: Filler, waiting: Iterator[tuple[str, bytes]], count: int) -> int:
    parts: dict[str, list[bytes]] = {}
    sent = 0
    for subject, payload in islice(waiting, count):
        parts.setdefault(subject, []).append(payload)
        sent += 1
    async with asyncio.TaskGroup() as tasks:
        for subject, payloads in parts.items():
            tasks.create_task(filler.append(subject, payloads))
    return sent


if __name__ == "__main__":
    asyncio.run(offer(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
