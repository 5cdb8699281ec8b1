"""The load of the history bench, a process of its own: events at a steady rate until told to stop.

``python -m bench.history_load URL`` prepares its events, prints ``ready``, begins with the first
line on stdin, ends with the second, and prints what it reached as a JSON line.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.runtime.settings import load_settings
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import RunningLog
from millstream_schemas import subjects

RATE = 2_000
LOAD_S = 60
"""As long as there are events; a bench that takes longer fails."""
TICK_S = 0.05
SLICES = 25
PIECE = 13
"""Events that are appended together, as a generator does with what is ready at once."""


async def load(url: str) -> None:
    """Append RATE events a second from the first line of stdin to the second; print the rate."""
    chains = prepared(RATE * LOAD_S)
    async with connected(load_settings(nats_url=url), "load") as connection:
        event_log = EventLog(connection)
        for started in chains.starts:
            await event_log.append(started, expected=0)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        stop = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        begun, done = time.monotonic(), 0
        for tick in chains.ticks:
            await asyncio.sleep(begun + done / RATE - time.monotonic())
            async with asyncio.TaskGroup() as tasks:
                for chain, subject in tick:
                    tasks.create_task(chains.append(event_log, chain, subject))
            done += sum(len(chain) for chain, _ in tick)
            if stop.done():
                break
        print(json.dumps({"events_per_s": done / (time.monotonic() - begun)}), flush=True)
        await stop


async def begin_after(running: RunningLog, sequence: int) -> None:
    """Replace the empty event stream by one whose first message comes after ``sequence``."""
    answers = running.event_log.answers
    described = await answers.ask(f"$JS.API.STREAM.INFO.{subjects.EVENTS}", b"", timeout_s=10)
    config = {**json.loads(described.data)["config"], "first_seq": sequence + 1}
    await answers.ask(f"$JS.API.STREAM.DELETE.{subjects.EVENTS}", b"", timeout_s=10)
    body = json.dumps(config).encode()
    made = await answers.ask(f"$JS.API.STREAM.CREATE.{subjects.EVENTS}", body, timeout_s=10)
    if "error" in json.loads(made.data):
        raise SystemExit(f"the stream can't begin at {sequence + 1}: {made.data.decode()}")


@dataclass(slots=True)
class Prepared:
    """Batches' starts, and the chains of events that belong to each tick."""

    starts: list[Any] = field(default_factory=list)
    ticks: list[list[tuple[list[Any], str]]] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)

    async def append(self, event_log: EventLog, chain: list[Any], subject: str) -> None:
        """Append events of one subject after those that this process has put there."""
        self.last[subject] = await event_log.append_chain(
            chain, expected=self.last.get(subject, 0), bound_s=60
        )


def prepared(count: int) -> Prepared:
    """Return batches of ``count`` samples, a few per slice and tick."""
    found = Prepared()
    per_batch = SLICES * 64
    text = {"question": "What does the contract say? " * 3, "answer": "It says so. " * 30}
    waiting: list[tuple[list[Any], str]] = []
    for number in range(-(-count // per_batch)):
        script = Script(
            batch_id=f"batch_1790000000_{number:08x}", spec=example_spec(per_batch, slice_size=64)
        )
        found.starts.append(script.start().event)
        for index in range(SLICES):
            script.claim(index)
        for slot in range(per_batch):
            script.generate(slot, {**text, "number": str(slot)})
        chains: dict[str, list[Any]] = {}
        for entry in script.tape.entries[1:]:
            chains.setdefault(entry.recorded.event.subject, []).append(entry.recorded.event)
        longest = max(len(events) for events in chains.values())
        # Pieces of one subject lie far apart: those of a tick are appended side by side.
        for begin in range(0, longest, PIECE):
            waiting += [
                (events[begin : begin + PIECE], subject)
                for subject, events in chains.items()
                if begin < len(events)
            ]
    tick: list[tuple[list[Any], str]] = []
    size = 0
    for piece in waiting:
        tick.append(piece)
        size += len(piece[0])
        if size >= RATE * TICK_S:
            found.ticks.append(tick)
            tick, size = [], 0
    return found


if __name__ == "__main__":
    asyncio.run(load(sys.argv[1]))
