"""How long a verification and a look at the past take, and whether tampering is ever missed.

The log is filled with sound batches, a projector folds it as a process of its own, and the
verifier runs as `millstream audit verify` runs it. With other `--events` than a million the
verification of a million is reckoned from those; the table tells how many they were. `bench.travel`
measures the past, in one batch of `--travel-events` and on a board of 10,000 batches.
"""

import argparse
import asyncio
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from msgspec.structs import replace

from bench import travel
from bench.measure import Metric, report
from bench.sound_log import Filler, copies
from millstream.eventlog.chain import ChainState, RecentRoots
from millstream.eventlog.checkpoints import CheckpointLog
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import Stored
from millstream.testing.asking import ask, is_answered
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import RunningLog, running_log
from millstream.testing.service_process import ServiceProcess
from millstream_projector.audit.vouching import Source, Voucher
from millstream_projector.projection import PIECE
from millstream_schemas import subjects
from millstream_schemas.audit import Checkpoint, VerifyReport
from millstream_schemas.envelope import BatchEvent

SAMPLES = 5_000
SLICE_SIZE = 64
WRITERS = 16
TRIES = 100
VERIFY_MOST_S = 45.0
CHAIN_MOST_US = 10.0
TRAVEL_MOST_S = 2.0
LIMIT_S = 1_800.0
TEXT = {"question": "What does the contract say? " * 8, "answer": "It says what it says. " * 20}


async def fill(event_log: EventLog, wanted: int) -> int:
    """Append whole batches of about 1.1 KB an event, ``wanted`` events or more; return the end."""
    filler = Filler(event_log)
    last = 0
    for batch in copies(wanted):
        last = await filler.append_batch(batch)
    return last


async def fill_batch(event_log: EventLog, batch_id: str) -> int:
    """Append one completed batch, its slices side by side as generators do."""
    script = Script(batch_id=batch_id, spec=example_spec(SAMPLES, slice_size=SLICE_SIZE))
    script.start()
    for slot in range(SAMPLES):
        if slot % SLICE_SIZE == 0:
            script.claim(slot // SLICE_SIZE)
        script.generate(slot, {**TEXT, "number": str(slot)})
    script.complete()
    chains: dict[str, list[BatchEvent]] = {}
    events = [entry.recorded.event for entry in script.tape.entries]
    started, final = events[0], events[-1]
    for event in events[1:-1]:
        chains.setdefault(event.subject, []).append(event)
    control = await event_log.append(started, expected=0)
    waiting = list(chains.values())

    async def write() -> None:
        while waiting:
            await event_log.append_chain(waiting.pop(), expected=0, bound_s=60)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(WRITERS):
            tasks.create_task(write())
    return await event_log.append(final, expected=control, bound_s=60)


async def verify(running: RunningLog, data_dir: Path) -> tuple[VerifyReport, float, float]:
    """Run the verifier; return its report, its seconds, and its processes' processor seconds."""
    begun, cpu = time.monotonic(), children_cpu_s()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "millstream_projector.audit.verify", "--json"),
        stdout=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "MILLSTREAM_NATS_URL": running.settings.nats_url,
            "MILLSTREAM_DATA_DIR": str(data_dir),
        },
    )
    out, _ = await process.communicate()
    seconds = time.monotonic() - begun
    return VerifyReport.model_validate_json(out), seconds, children_cpu_s() - cpu


def children_cpu_s() -> float:
    """Return the processor seconds of the children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def chain_cost_us(log: Sequence[Stored]) -> float:
    """Return the processor time of the chain per event, as a projector computes it."""
    recent, best = RecentRoots(), float("inf")
    for _ in range(5):
        begun = time.process_time()
        state = ChainState()
        for start in range(0, len(log), PIECE):
            state = recent.extend(state, log[start : start + PIECE])
        best = min(best, (time.process_time() - begun) / len(log) * 1e6)
    return best


def change_a_bit(log: list[Stored], chance: Random) -> list[Stored]:
    """Change one bit of one payload."""
    place = chance.randrange(len(log))
    payload = bytearray(log[place].payload)
    payload[chance.randrange(len(payload))] ^= 1 << chance.randrange(8)
    return [*log[:place], replace(log[place], payload=bytes(payload)), *log[place + 1 :]]


def remove(log: list[Stored], chance: Random) -> list[Stored]:
    """Remove one event and close the gap."""
    place = chance.randrange(len(log))
    return renumbered(log[:place] + log[place + 1 :])


def insert(log: list[Stored], chance: Random) -> list[Stored]:
    """Insert a copy of one event elsewhere."""
    place = chance.randrange(len(log))
    return renumbered([*log[:place], chance.choice(log), *log[place:]])


def swap(log: list[Stored], chance: Random) -> list[Stored]:
    """Swap two events."""
    one, other = chance.sample(range(len(log)), 2)
    changed = list(log)
    changed[one], changed[other] = changed[other], changed[one]
    return renumbered(changed)


def renumbered(log: list[Stored]) -> list[Stored]:
    """Return the events with sequences from 1 on, as a forger would leave them."""
    return [replace(stored, sequence=number) for number, stored in enumerate(log, start=1)]


TAMPER: tuple[Callable[[list[Stored], Random], list[Stored]], ...] = (
    change_a_bit,
    remove,
    insert,
    swap,
)


def tampered(log: list[Stored], checkpoints: Sequence[Checkpoint]) -> int:
    """Return how many of ``TRIES`` ways to tamper with the log its checkpoints tell of."""
    stream = checkpoints[0].stream
    found = 0
    for number in range(TRIES):
        voucher = Voucher([Source("sealed", checkpoints)], stream=stream)
        voucher.take(TAMPER[number % len(TAMPER)](log, Random(number)))
        (outcome,) = voucher.finish(len(log))
        found += bool(outcome.faults)
    return found


async def sealed(event_log: EventLog, until: int) -> list[Checkpoint]:
    """Return the checkpoints of the log, once they reach ``until``."""
    async with asyncio.timeout(60):
        while True:
            pages = CheckpointLog(event_log.answers).after(0)
            found = [view.checkpoint async for page in pages for view in page]
            if found and found[-1].to_sequence >= until:
                return found
            await asyncio.sleep(0.5)


async def measure(events: int) -> dict[str, Metric]:
    """Fill a log, verify it, and tamper with the first part of it."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as directory:
        path = Path(directory)
        async with running_log(path) as running:
            views = path / "views"
            projector = ServiceProcess(
                "millstream_projector",
                path / "projector.log",
                nats_url=running.settings.nats_url,
                data_dir=str(views),
            )
            log = running.event_log
            with projector:
                while not await is_answered(log):
                    await asyncio.sleep(0.1)
                await fill_batch(log, "batch_1767225600_00000000")
                first = (await log.head()).last
                checkpoints = await sealed(log, first)
                begun = time.monotonic()
                last = await fill(log, events)
                print(f"filled to {last:,} in {time.monotonic() - begun:.0f} s")
                async with asyncio.timeout(LIMIT_S):
                    while (await ask(log, "stuck")).as_of < last:
                        await asyncio.sleep(0.5)
                print(f"folded after {time.monotonic() - begun:.0f} s")
                outcome, seconds, cpu_s = await verify(running, views)
                part = await beginning(log, checkpoints[-1].to_sequence)
    if not outcome.ok:
        raise SystemExit(f"the log does not verify: {outcome.model_dump_json(indent=2)[:4000]}")
    scale = 1_000_000 / outcome.events
    return {
        "verify_s_1m": Metric(seconds * scale, "s"),
        "verify_cpu_s_1m": Metric(cpu_s * scale, "s"),
        "verify_s": Metric(seconds, "s"),
        "events": Metric(outcome.events, "events"),
        "chain_us_per_event": Metric(chain_cost_us(part), "us"),
        "tampered_found": Metric(tampered(part, checkpoints), "logs"),
        "tampered_tried": Metric(TRIES, "logs"),
    }


async def beginning(event_log: EventLog, until: int) -> list[Stored]:
    """Return the events up to ``until``."""
    pages = event_log.history(subjects.ALL_EVENTS, until=until)
    return [stored async for page in pages for stored in page]


def main() -> int:
    """Measure; exit code 1 when a figure misses its mark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--travel-events", type=int, default=1_000_000)
    options = parser.parse_args()
    metrics = asyncio.run(measure(options.events))
    metrics |= asyncio.run(travel.one_batch(options.travel_events))
    metrics |= travel.boards()
    report("audit", metrics)
    missed = [
        words
        for words, is_missed in (
            (
                f"verify_s_1m is over {VERIFY_MOST_S:g}",
                metrics["verify_s_1m"].value > VERIFY_MOST_S,
            ),
            (
                f"travel_s_1m is over {TRAVEL_MOST_S:g}",
                metrics["travel_s_1m"].value > TRAVEL_MOST_S,
            ),
            (
                f"chain_us_per_event is over {CHAIN_MOST_US:g}",
                metrics["chain_us_per_event"].value > CHAIN_MOST_US,
            ),
            ("tampering was missed", metrics["tampered_found"].value < TRIES),
        )
        if is_missed
    ]
    for words in missed:
        print(f"MISSED: {words}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
