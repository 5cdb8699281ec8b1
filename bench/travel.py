"""How long a look at the past takes: one batch of a million events, and a board of 10,000 batches.

The batch is in a real log, folded by a projector of its own; the figure is the slowest of several
sequences over the whole of it, asked for over NATS. The board is made of rows that this process
folds; its pages are read in place. `bench.audit` reports both.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from bench.measure import Metric
from millstream.errors import LogError
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import Stored
from millstream.testing.asking import ask, is_answered
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import running_log
from millstream.testing.service_process import ServiceProcess
from millstream.testing.tape import Tape
from millstream.testing.tape_log import TapeLog
from millstream_projector.opening import open_store
from millstream_projector.past.as_of import Past
from millstream_projector.projection import Projection
from millstream_projector.views import queries
from millstream_schemas import views
from millstream_schemas.envelope import BatchEvent

BATCH = "batch_1767225600_00000001"
SLICE_SIZE = 64
WRITERS = 16
STARTED_AT_ONCE = 256
"""Slices that are under way together, so that any moment finds some half-done."""
MOMENTS = 8
BATCHES = 10_000
ALIVE = 100
ALL_ALIVE = 2_000
FOLD_BOUND_S = 600.0
STREAM = "2026-01-01T00:00:00Z"
TEXT = {"question": "What does the contract say? " * 8, "answer": "It says what it says. " * 20}


async def one_batch(events: int) -> dict[str, Metric]:
    """Fill a log with one batch of ``events`` and ask for it at sequences all over it."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as directory:
        path = Path(directory)
        async with running_log(path) as running:
            log = running.event_log
            projector = ServiceProcess(
                "millstream_projector",
                path / "projector.log",
                nats_url=running.settings.nats_url,
                data_dir=str(path / "views"),
            )
            with projector:
                begun = time.monotonic()
                last = await fill_one(log, events)
                print(f"one batch of {last:,} events after {time.monotonic() - begun:.0f} s")
                await folded(log, last)
                print(f"folded after {time.monotonic() - begun:.0f} s")
                seconds = [
                    await timed(log, last * number // MOMENTS + 1) for number in range(1, MOMENTS)
                ]
    return {
        "travel_s_1m": Metric(max(seconds) * 1_000_000 / last, "s"),
        "travel_s": Metric(max(seconds), "s"),
        "travel_events": Metric(last, "events"),
    }


async def fill_one(log: EventLog, events: int) -> int:
    """Append one live batch, its slices side by side as generators do; return the log's end."""
    script = Script(batch_id=BATCH, spec=example_spec(1_000_000, slice_size=SLICE_SIZE))
    script.start()
    last = await log.append(_taken(script)[0], expected=0)
    index = 0
    while last < events:
        chains: list[list[BatchEvent]] = []
        for number in range(index, index + STARTED_AT_ONCE):
            script.claim(number)
            first = number * SLICE_SIZE
            for slot in range(first, first + SLICE_SIZE):
                if slot % 20 == 0:
                    script.fail_attempt(slot, "server", "HTTP 500")
                script.generate(slot, {**TEXT, "number": str(slot)})
            chains.append(_taken(script))
        index += STARTED_AT_ONCE
        last = max(last, *await _written(log, chains))
    return last


def _taken(script: Script) -> list[BatchEvent]:
    """Return the events on the script's tape, which forgets them."""
    events = [entry.recorded.event for entry in script.tape.entries]
    script.tape.entries.clear()
    return events


async def _written(log: EventLog, chains: list[list[BatchEvent]]) -> list[int]:
    """Append the chains, many at a time and piece by piece, so that they mix in the log."""
    ends: list[int] = []
    waiting = list(reversed(chains))

    async def write() -> None:
        while waiting:
            chain, last = waiting.pop(), 0
            for start in range(0, len(chain), 8):
                last = await log.append_chain(chain[start : start + 8], expected=last, bound_s=60)
            ends.append(last)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(WRITERS):
            tasks.create_task(write())
    return ends


async def folded(log: EventLog, last: int) -> None:
    """Return once the projector has folded everything up to ``last``."""
    async with asyncio.timeout(FOLD_BOUND_S):
        while not await is_answered(log):
            await asyncio.sleep(0.2)
        while True:
            with suppress(LogError):  # one that rebuilds is too busy to answer
                if (await ask(log, "stuck")).as_of >= last:
                    return
            await asyncio.sleep(0.5)


async def timed(log: EventLog, sequence: int) -> float:
    """Return the seconds that the batch at ``sequence`` takes."""
    begun = time.monotonic()
    answer = await ask(log, "batch", batch_id=BATCH, at_seq=sequence)
    seconds = time.monotonic() - begun
    counts = answer.batch.counts
    print(f"  at {sequence:,}: {counts.generated:,} samples, {seconds * 1000:.0f} ms")
    return seconds


def boards() -> dict[str, Metric]:
    """Measure a page of the board at a past sequence, with few batches live then and with all."""
    return {
        "board_ms_10k": Metric(_board_ms(_ended_in_turn()), "ms"),
        "board_ms_2k_live": Metric(_board_ms(_all_alive()), "ms"),
    }


def _scripts(batches: int) -> Iterable[Script]:
    tape, spec = Tape(step_s=0.01), example_spec(4, slice_size=4)
    return (
        Script(tape, batch_id=f"batch_1767225600_{number:08x}", spec=spec)
        for number in range(batches)
    )


def _ended_in_turn() -> tuple[list[Stored], int]:
    """Return a log in which ``ALIVE`` batches are live at any time, and its middle."""
    alive: list[Script] = []
    for script in _scripts(BATCHES):
        script.start()
        script.claim(0)
        script.generate(0)
        alive.append(script)
        if len(alive) > ALIVE:
            _finish(alive.pop(0))
    stored = alive[0].tape.stored
    return stored, len(stored) // 2


def _all_alive() -> tuple[list[Stored], int]:
    """Return a log in which all batches are live before the first ends, and that moment."""
    scripts = list(_scripts(ALL_ALIVE))
    for script in scripts:
        script.start()
        script.claim(0)
        script.generate(0)
    middle = len(scripts[0].tape.entries)
    for script in scripts:
        _finish(script)
    return scripts[0].tape.stored, middle


def _finish(script: Script) -> None:
    for slot in script.open_slots():
        script.generate(slot)
    script.complete()


def _board_ms(log: tuple[list[Stored], int]) -> float:
    stored, middle = log
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as directory:
        store = open_store(Path(directory), stream=STREAM, last_sequence=2**62)
        projection = Projection(store)
        for start in range(0, len(stored), 2_000):
            projection.advance(stored[start : start + 2_000])
        reader = store.reader()
        past = Past(middle, TapeLog(stored))
        query, best, answer = views.HistoryQuery(limit=50), float("inf"), b""
        for _ in range(3):
            begun = time.monotonic()
            answer = queries.answer(reader, "history", query, most_bytes=900_000, past=past)
            best = min(best, time.monotonic() - begun)
        page = views.BatchPage.model_validate_json(answer)
        print(f"board at {middle:,}: {page.total:,} batches {page.states}, {best * 1000:.0f} ms")
        reader.close()
        store.close()
    return best * 1000
