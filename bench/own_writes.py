"""Whether who wrote an event reads it at once, whichever of two projectors answers.

Two projectors with files of their own stand behind one API, and both fold a load that comes in
from a process apart. Each event of ours is asked for over HTTP as soon as it is stored, with its
sequence as ``min_sequence``: an answer without it is wrong, and so is none. As many are asked for
without ``min_sequence``, which tells how often the question would have come too early.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bench.measure import Metric, percentile, report
from bench.project import loaded
from millstream.eventlog.log import EventLog
from millstream.eventlog.nodes import Nodes
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import RunningLog, running_log
from millstream.testing.service_process import ApiProcess, ServiceProcess
from millstream_schemas.envelope import BatchEvent

RATE = 1_000
REPLICAS = 2
WRITERS = 2
READS_LEAST = 200
P99_MOST_MS = 100.0
READY_S = 60.0


@dataclass(slots=True)
class Reader:
    """Writes batches, event by event, and reads each event back."""

    event_log: EventLog
    client: httpx.AsyncClient
    times: dict[str, list[float]] = field(default_factory=lambda: {"history": [], "samples": []})
    wrong: int = 0
    plain: int = 0
    plain_wrong: int = 0
    _last: dict[str, int] = field(default_factory=dict)
    _batches: int = 0

    async def append(self, event: BatchEvent) -> int:
        """Append an event behind those of its subject; return its sequence."""
        expected = self._last.get(event.subject, 0)
        sequence = await self.event_log.append(event, expected=expected)
        self._last[event.subject] = sequence
        return sequence

    async def round(self) -> None:
        """Start a batch and make four samples; read every event, some without its sequence."""
        self._batches += 1
        spec = example_spec(4, slice_size=4)
        script = Script(batch_id=f"batch_1790000000_{self._batches:08x}", spec=spec)
        sequence = await self.append(script.start().event)
        await self._read("history", script.batch_id, 1, sequence)
        await self.append(script.claim(0).event)
        for slot in range(4):
            sequence = await self.append(script.generate(slot).event)
            wanted = sequence if slot % 2 else None
            await self._read("samples", script.batch_id, slot + 1, wanted)

    async def _read(self, name: str, batch_id: str, wanted: int, sequence: int | None) -> None:
        path = "/v1/batches" if name == "history" else f"/v1/batches/{batch_id}/samples"
        # With a text the API adds nothing to the history that a projector gives.
        query = {"text": batch_id} if name == "history" else {}
        minimum = {} if sequence is None else {"min_sequence": str(sequence)}
        begun = time.perf_counter()
        answer = await self.client.get(path, params={**query, **minimum})
        took_ms = (time.perf_counter() - begun) * 1000
        rows = answer.json()["batches" if name == "history" else name] if answer.is_success else []
        is_wrong = len(rows) != wanted
        if sequence is None:
            self.plain += 1
            self.plain_wrong += is_wrong
        else:
            self.wrong += is_wrong
            self.times[name].append(took_ms)


async def _are_live(nodes: Nodes) -> bool:
    beats = await nodes.live()
    return sum(beat.service == "projector" for beat in beats) == REPLICAS


async def measure(seconds: float) -> dict[str, Metric]:
    """Read own writes for as long as the load lasts."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as directory:
        path = Path(directory)
        async with running_log(path) as running, AsyncExitStack() as stack:
            client = await _serve(running, path, stack)
            reader = Reader(running.event_log, client)
            async with loaded(running, RATE, seconds, 1) as process:

                async def write() -> None:
                    while process.poll() is None:
                        await reader.round()

                async with asyncio.TaskGroup() as writers:
                    for _ in range(WRITERS):
                        writers.create_task(write())
            if process.returncode:
                raise SystemExit(1)
    reads = sum(map(len, reader.times.values()))
    if reads < READS_LEAST:
        raise SystemExit(f"{reads} reads are too few to tell of; give more --seconds")
    metrics = {
        f"{name}_ms_p{share * 100:.0f}": Metric(percentile(found, share), "ms")
        for name, found in reader.times.items()
        for share in (0.5, 0.99)
    }
    return metrics | {
        "reads": Metric(reads, "reads"),
        "wrong": Metric(reader.wrong, "reads"),
        "plain_wrong_share": Metric(reader.plain_wrong / reader.plain, "of those without"),
    }


async def _serve(running: RunningLog, path: Path, stack: AsyncExitStack) -> httpx.AsyncClient:
    for number in range(REPLICAS):
        name = f"projector-{number}"
        own = {"nats_url": running.settings.nats_url, "node": name, "data_dir": str(path / name)}
        stack.enter_context(ServiceProcess("millstream_projector", path / f"{name}.log", **own))
    nodes = Nodes(running.event_log.answers)
    async with asyncio.timeout(READY_S):
        while not await _are_live(nodes):
            await asyncio.sleep(0.1)
    api = stack.enter_context(ApiProcess(path / "api.log", running.settings.nats_url))
    return await stack.enter_async_context(httpx.AsyncClient(base_url=api.url, timeout=10))


def missed(metrics: dict[str, Metric]) -> list[str]:
    """Return the figures that miss their mark."""
    found = [
        f"{name} is over {P99_MOST_MS:g}"
        for name in ("history_ms_p99", "samples_ms_p99")
        if metrics[name].value > P99_MOST_MS
    ]
    return [*found, "reads were wrong"] if metrics["wrong"].value else found


def main() -> int:
    """Measure; exit code 1 when a figure misses its mark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    metrics = asyncio.run(measure(parser.parse_args().seconds))
    report("own_writes", metrics)
    words = missed(metrics)
    for word in words:
        print(f"MISSED: {word}")
    return 1 if words else 0


if __name__ == "__main__":
    sys.exit(main())
