"""Generators as the bench runs them: a log, a model's server, and each generator a process."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from millstream.errors import LogUnavailableError, ServerError
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import decode
from millstream.recipes import RecipeBook, recipe_directories
from millstream.runtime.clock import new_batch_id, new_id, new_seed, utc_now
from millstream.testing.nats import ACTOR, running_log
from millstream.testing.service_process import ServiceProcess
from millstream.testing.stack import wait_until
from millstream_schemas import control, subjects
from millstream_schemas.routes import Route

ROOT = Path(__file__).resolve().parents[1]
BATCH_BOUND_S = 600.0
ASK_S = 0.25


@dataclass(frozen=True)
class Lane:
    """One way to the model, with the load that suits it."""

    name: str
    setting: str
    yardstick: str
    samples: int
    in_flight: int
    model: str = "fast"
    generators: int = 1
    family: str = "openai"
    """Whose calls litellm makes, if it makes them."""


@dataclass(frozen=True)
class Bench:
    """The running parts: a log, the model's URL and the generators' processes."""

    event_log: EventLog
    simulated_url: str
    generators: tuple[psutil.Process, ...]

    @property
    def cpu_s(self) -> float:
        """Processor time that the generators have taken."""
        return sum(sum(process.cpu_times()[:2]) for process in self.generators)


@contextmanager
def simulated_models(directory: Path) -> Iterator[str]:
    """Give the URL of a model's server in a process of its own."""
    ready = directory / "simulated.json"
    arguments = ["-m", "bench.model_server", "--ready-file", str(ready)]
    with subprocess.Popen([sys.executable, *arguments], cwd=ROOT) as process:
        try:
            wait_until(ready.exists, 60.0, "the model's server")
            yield str(json.loads(ready.read_text(encoding="utf-8"))["url"])
        finally:
            process.terminate()


@asynccontextmanager
async def running(lane: Lane) -> AsyncIterator[Bench]:
    """Give a fresh log, a model and the lane's generators."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as name, ExitStack() as exits:
        directory = Path(name)
        async with running_log(directory) as log:
            url = exits.enter_context(simulated_models(directory))
            processes = [
                exits.enter_context(
                    ServiceProcess(
                        "millstream_generator",
                        directory / f"generator-{number}.log",
                        nats_url=log.settings.nats_url,
                        data_dir=name,
                        simulated_url=url,
                        lane=lane.setting,
                        node=f"bench-{number}",
                    )
                )
                for number in range(lane.generators)
            ]
            yield Bench(log.event_log, url, tuple(psutil.Process(one.pid) for one in processes))
            exits.close()  # the generators end before their log


async def start(event_log: EventLog, lane: Lane) -> str:
    """Start a batch as the API does; returns its id."""
    batch_id = new_batch_id()
    model = f"simulated/{lane.model}"
    wire_model = f"{lane.family}/{lane.model}"
    spec = control.BatchSpec(
        recipe=RecipeBook.load(recipe_directories(None)).pin("legal-qa"),
        model=model,
        routes=(Route(model=model, provider="simulated", litellm_model=wire_model),),
        target=lane.samples,
        slice_size=min(control.SLICE_SLOTS_MAX, max(1, -(-lane.samples // 32))),
        seed=new_seed(),
        concurrency=lane.in_flight,
    )
    event = control.BatchStarted(
        id=new_id(),
        source="bench",
        subject=subjects.control(batch_id),
        time=utc_now(),
        actor=ACTOR,
        batch_id=batch_id,
        dataset_id=batch_id,
        spec=spec,
    )
    await event_log.append(event, expected=0)
    return batch_id


async def await_end(bench: Bench, batch_id: str) -> float:
    """Return the most memory (MB) that the generator took until the batch was completed."""
    deadline = time.monotonic() + BATCH_BOUND_S
    most = 0.0
    while time.monotonic() < deadline:
        await asyncio.sleep(ASK_S)
        most = max(most, rss_mb(bench))
        try:
            stored = await bench.event_log.last(subjects.control(batch_id))
        except LogUnavailableError:
            continue  # a busy machine answers late; the deadline stands
        recorded = decode(stored) if stored else None
        if recorded is not None and isinstance(recorded.event, control.BatchCompleted):
            return most
        if recorded is None or not isinstance(recorded.event, control.BatchStarted):
            raise ServerError(f"batch {batch_id} did not complete: {recorded}")
    raise ServerError(f"batch {batch_id} did not end within {BATCH_BOUND_S:g} s")


def rss_mb(bench: Bench) -> float:
    """Return the generator's resident memory."""
    return max(float(process.memory_info().rss) for process in bench.generators) / 2**20
