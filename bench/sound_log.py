"""A sound log of any length, quickly made: one batch's history, copied with other texts."""

import asyncio
import random
from collections.abc import Iterator

from millstream.eventlog.log import EventLog
from millstream.eventlog.publisher import Chain, Publisher
from millstream.eventlog.stored import Stored
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.tape import Tape

SAMPLES = 4_096
SLICE_SIZE = 64
WRITERS = 16
WORDS = 36
TEMPLATE = "batch_1767225600_ffffffff"
ROUTE = "route.5d41402abc4b2a76b9719d91"
_MARK = b"@@@@"
_HEADERS = b"Nats-Expected-Last-Subject-Sequence: 1"


def template(samples: int = SAMPLES) -> list[Stored]:
    """Return the history of one completed batch, ``WRITERS`` slices side by side."""
    tape = Tape(step_s=0.001)
    spec = example_spec(samples, slice_size=SLICE_SIZE)
    script = Script(tape, batch_id=TEMPLATE, spec=spec)
    script.route = ROUTE
    script.start()
    for first in range(0, spec.slices, WRITERS):
        together = range(first, min(first + WRITERS, spec.slices))
        for index in together:
            script.claim(index)
        for offset in range(SLICE_SIZE):
            for index in together:
                if offset < len(spec.slots(index)):
                    slot = spec.slots(index)[offset]
                    script.generate(slot, {"question": "@@@@", "answer": "@@@@", "id": str(slot)})
    script.complete()
    return tape.stored


def copies(
    events: int, *, seed: int = 1, samples: int = SAMPLES, first: int = 1
) -> Iterator[list[Stored]]:
    """Give whole batches of about 1 KB an event until there are ``events``."""
    chance = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 9))) for _ in range(4_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    pool = chance.choices(words, weights, k=200_000)
    origin = template(samples)
    sequence, number = 0, first - 1
    while sequence < events:
        number += 1
        batch_id = f"batch_1767225600_{number:08x}"
        copied = []
        for stored in origin:
            sequence += 1
            start = chance.randrange(len(pool) - WORDS)
            payload = stored.payload.replace(TEMPLATE.encode(), batch_id.encode())
            if _MARK in payload:
                short, long = pool[start : start + 6], pool[start + 6 : start + WORDS]
                payload = payload.replace(_MARK, " ".join(short).encode(), 1)
                payload = payload.replace(_MARK, " ".join(long).encode(), 1)
            subject = stored.subject.replace(TEMPLATE, batch_id)
            copied.append(Stored(sequence, stored.time_us, subject, payload, _HEADERS))
        yield copied


class Filler:
    """Appends events behind their fences, many subjects in one write."""

    def __init__(self, event_log: EventLog) -> None:
        self._publisher = Publisher(event_log.answers)
        self._last: dict[str, int] = {}

    async def append(self, subject: str, payloads: list[bytes]) -> int:
        """Append events of one subject; return the last one's sequence."""
        chain = Chain(subject, payloads, self._last.get(subject, 0))
        self._last[subject] = sequence = await self._publisher.publish(chain)
        return sequence

    async def append_batch(self, batch: list[Stored]) -> int:
        """Append a batch, ``WRITERS`` slices side by side; return the end's sequence."""
        first, *slices, final = by_subject(batch)
        await self.append(*first)
        for start in range(0, len(slices), WRITERS):
            async with asyncio.TaskGroup() as tasks:
                for subject, payloads in slices[start : start + WRITERS]:
                    tasks.create_task(self.append(subject, payloads))
        return await self.append(*final)


def by_subject(batch: list[Stored]) -> list[tuple[str, list[bytes]]]:
    """Return a batch's events by subject: its start, its slices, its end."""
    slices: dict[str, list[bytes]] = {}
    for stored in batch[1:-1]:
        slices.setdefault(stored.subject, []).append(stored.payload)
    first, last = batch[0], batch[-1]
    return [
        (first.subject, [first.payload]),
        *slices.items(),
        (last.subject, [last.payload]),
    ]
