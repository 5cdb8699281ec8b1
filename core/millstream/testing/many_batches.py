"""Ended batches by the thousand on a running log: ``python -m millstream.testing.many_batches``.

Arguments are the address of NATS and how many. Of ten batches one is completed, one failed and
eight were stopped before a sample; they are copies of three made by the builder of histories.
"""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby

from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.eventlog.publisher import Chain, Publisher
from millstream.runtime.settings import load_settings
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.tape import Tape
from millstream_schemas.errors import ErrorInfo

MODELS = {"completed": "simulated/fast", "failed": "simulated/flaky", "stopped": "simulated/slow"}
AT_ONCE = 2_000
Part = tuple[str, list[bytes]]


def batch_id(number: int) -> str:
    """Return the id of the batch with this number."""
    return f"batch_1767225600_{number:08x}"


def state_of(number: int) -> str:
    """Return how the batch with this number ended."""
    return {0: "completed", 1: "failed"}.get(number % 10, "stopped")


async def fill(nats_url: str, count: int) -> None:
    """Append the histories of batches 0 to ``count``, exclusive."""
    parts = {state: _parts(state) for state in MODELS}
    async with connected(load_settings(nats_url=nats_url), "filler") as connection:
        publisher = Publisher(EventLog(connection).answers)
        for start in range(0, count, AT_ONCE):
            async with asyncio.TaskGroup() as tasks:
                for number in range(start, min(start + AT_ONCE, count)):
                    tasks.create_task(_append(publisher, number, parts[state_of(number)]))


async def _append(publisher: Publisher, number: int, parts: Sequence[Part]) -> None:
    last: dict[str, int] = {}
    for subject, payloads in _renamed(number, parts):
        chain = Chain(subject, payloads, last.get(subject, 0))
        last[subject] = await publisher.publish(chain)


def _renamed(number: int, parts: Sequence[Part]) -> Iterator[Part]:
    old, new = batch_id(0), batch_id(number)
    for subject, payloads in parts:
        own = [payload.replace(old.encode(), new.encode()) for payload in payloads]
        yield subject.replace(old, new), own


def _parts(state: str) -> list[Part]:
    """Return a history that ends so, in runs of events of one subject."""
    tape = Tape(step_s=0.001)
    script = Script(tape, batch_id=batch_id(0), spec=example_spec(1, model=MODELS[state]))
    script.start()
    if state == "completed":
        script.claim(0)
        script.generate(0)
        script.complete()
    else:
        broken = ErrorInfo(category="auth", message="no such key") if state == "failed" else None
        script.request_stop(error=broken)
        script.end_stop()
    runs = groupby(tape.stored, key=lambda stored: stored.subject)
    return [(subject, [stored.payload for stored in run]) for subject, run in runs]


if __name__ == "__main__":
    asyncio.run(fill(sys.argv[1], int(sys.argv[2])))
