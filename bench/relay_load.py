"""The load of the relay bench: events of many batches in turn, at a steady rate.

``python -m bench.relay_load URL BATCHES RATE SECONDS`` starts that many batches and appends an
event of each in turn.
"""

import asyncio
import re
import sys
import time
from collections.abc import Iterator
from itertools import cycle, islice

import httpx

from bench.sound_log import Filler, by_subject, copies
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.runtime.settings import load_settings

TICK_S = 0.02
TOGETHER = 20
"""Batches that run at once where people watch."""
READY_S = 60.0

Slices = list[tuple[str, list[bytes]]]


async def offer(url: str, together: int, rate: int, seconds: float) -> None:
    """Append ``rate`` events a second for so long, or until there are none left."""
    batches = []
    samples = max(64, -(-int(rate * seconds) // together))
    for number in range(together):
        events = next(iter(copies(1, samples=samples, first=number * 1000, seed=number)))
        batches.append(by_subject(events))
    async with connected(load_settings(nats_url=url), "load") as connection:
        filler = Filler(EventLog(connection))
        for first, *_ in batches:
            await filler.append(*first)
        waiting = in_turn([flat(slices) for _, *slices, _ in batches])
        begun, sent = time.monotonic(), 0
        while (due := time.monotonic() - begun) < seconds:
            parts: dict[str, list[bytes]] = {}
            for subject, payload in islice(waiting, int(due * rate) - sent):
                parts.setdefault(subject, []).append(payload)
                sent += 1
            async with asyncio.TaskGroup() as tasks:
                for subject, payloads in parts.items():
                    tasks.create_task(filler.append(subject, payloads))
            await asyncio.sleep(max(0.0, TICK_S - (time.monotonic() - begun - due)))


async def moving(url: str) -> None:
    """Return once samples come."""
    async with httpx.AsyncClient(base_url=url) as client, asyncio.timeout(READY_S):
        before = _samples((await client.get("/metrics")).text)
        while _samples((await client.get("/metrics")).text) <= before:
            await asyncio.sleep(0.1)


def _samples(metrics: str) -> float:
    found = re.search(r'millstream_live_samples\{outcome="generated"\} ([0-9.]+)', metrics)
    return float(found[1]) if found else 0.0


def in_turn(
    batches: list[Iterator[tuple[str, bytes]]],
) -> Iterator[tuple[str, bytes]]:
    """Give one event of each batch in turn, as long as each has one."""
    for batch in cycle(batches):
        found = next(batch, None)
        if found is None:
            return
        yield found


def flat(slices: Slices) -> Iterator[tuple[str, bytes]]:
    """Give the events of a batch's slices one by one."""
    for subject, payloads in slices:
        for payload in payloads:
            yield subject, payload


if __name__ == "__main__":
    asyncio.run(offer(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
