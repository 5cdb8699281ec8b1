"""The load of the page's heap bench, a process of its own: batches that begin, run and end.

``python -m bench.page_turnover URL TOGETHER SAMPLES EVENTS`` has so many batches live at any time,
each of so many samples; one that ends makes room for the next. Each line ``EVENTS RATE`` on stdin
appends so many events at that many a second, and prints as a JSON line how many batches have ended
and how long it took. Together they hold EVENTS.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from itertools import groupby, islice

from bench.sound_log import Filler, copies
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import Stored
from millstream.runtime.settings import load_settings

TICK_S = 0.02
FIRST = 700_000
"""The number of the first batch; no batch that was filled in has one as high."""


class Turnover:
    """The live batches, each with what it has yet to append."""

    def __init__(self, filler: Filler, batches: Iterator[list[Stored]], together: int) -> None:
        self._filler = filler
        self._batches = batches
        self._live = [iter(batch) for batch in islice(batches, together)]
        self._next = 0
        self.ended = 0

    async def append(self, count: int) -> None:
        """Append ``count`` events of the live batches in turn, each batch's in their order."""
        parts: dict[int, list[Stored]] = {}
        for _ in range(count):
            place = self._next = (self._next + 1) % len(self._live)
            event = next(self._live[place], None)
            if event is None:
                self.ended += 1
                self._live[place] = iter(next(self._batches))
                event = next(self._live[place])
            parts.setdefault(place, []).append(event)
        async with asyncio.TaskGroup() as tasks:
            for part in parts.values():
                tasks.create_task(self._append(part))

    async def _append(self, part: list[Stored]) -> None:
        for subject, run in groupby(part, key=lambda stored: stored.subject):
            await self._filler.append(subject, [stored.payload for stored in run])


async def offer(url: str, together: int, samples: int, events: int) -> None:
    """Append as stdin says, until it ends."""
    batches = copies(events + 2 * together * samples, samples=samples, first=FIRST)
    async with connected(load_settings(nats_url=url), "load") as connection:
        turnover = Turnover(Filler(EventLog(connection)), batches, together)
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            wanted, rate = map(int, line.split())
            begun, sent = time.monotonic(), 0
            while sent < wanted:
                due = min(wanted, int((time.monotonic() - begun) * rate) + 1)
                await turnover.append(due - sent)
                sent = due
                await asyncio.sleep(TICK_S)
            took = time.monotonic() - begun
            print(json.dumps({"ended": turnover.ended, "seconds": took}), flush=True)


if __name__ == "__main__":
    asyncio.run(offer(sys.argv[1], *map(int, sys.argv[2:5])))
