"""The API (and, where a test wants it, a projector) inside the test's own loop, on real parts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from millstream.eventlog.server import free_port
from millstream.runtime.settings import Settings
from millstream.testing.nats import RunningLog, running_log
from millstream.testing.tape import Entry
from millstream.testing.waiting import BOUND_S, POLL_S
from millstream_api.service import main as serve_api
from millstream_projector.__main__ import main as project

FOLDED_BY_ALL = ("/v1/stuck", "/v1/batches")
"""What the relay answers, and what the projector does."""


@dataclass
class Api:
    """A served API and the log behind it."""

    log: RunningLog
    url: str
    client: httpx.AsyncClient
    has_projector: bool
    placed: dict[str, int] = field(default_factory=dict)

    async def append(self, entries: list[Entry], *, waits: bool = True) -> int:
        """Append scripted events in order; returns the last one's stream sequence.

        Once all of them are folded, unless told not to wait for it.
        """
        sequence = 0
        for entry in entries:
            event = entry.recorded.event
            expected = self.placed.get(event.subject, 0)
            sequence = await self.log.event_log.append(event, expected=expected)
            self.placed[event.subject] = sequence
        if waits:
            await self.folded(sequence)
        return sequence

    async def folded(self, sequence: int) -> None:
        """Return once the relay has folded so far, and the projector if there is one."""
        async with asyncio.timeout(BOUND_S):
            for path in FOLDED_BY_ALL[: 1 + self.has_projector]:
                while True:
                    query = {"min_sequence": sequence}
                    answer = await self.client.get(path, params=query)
                    if answer.status_code == 200:
                        break
                    assert answer.status_code == 503, answer.text
                    await asyncio.sleep(POLL_S)

    async def start(self, **fields: Any) -> str:
        """Start a batch and return its id."""
        answer = await self.client.post("/v1/batches", json={"target": 10, **fields})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["batch"]["id"])


@contextlib.asynccontextmanager
async def running_api(log: RunningLog, *, projector: bool, **changed: Any) -> AsyncIterator[Api]:
    """Serve the API; ``changed`` replaces settings."""
    port = free_port()
    chosen = {
        "host": "127.0.0.1",
        "port": port,
        "simulated_url": "http://127.0.0.1:9",
        **changed,
    }
    settings = Settings(**{**log.settings.model_dump(), **chosen})
    stop = asyncio.Event()
    url = f"http://127.0.0.1:{port}"
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve_api(settings, stop))
        if projector:
            tasks.create_task(project(settings, stop))
        try:
            async with httpx.AsyncClient(base_url=url, timeout=60) as client:
                await _ready(client, projector=projector)
                yield Api(log, url, client, projector)
        finally:
            stop.set()


async def _ready(client: httpx.AsyncClient, *, projector: bool) -> None:
    async with asyncio.timeout(BOUND_S):
        for path in ("/readyz", "/v1/batches")[: 1 + projector]:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(path)).status_code in {200, 401}:
                        break
                await asyncio.sleep(POLL_S)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """The API with a projector."""
    async with running_log(tmp_path) as log, running_api(log, projector=True) as served:
        yield served


@pytest.fixture
async def lone_api(tmp_path: Path) -> AsyncIterator[Api]:
    """The API alone: no projector, no generator."""
    async with running_log(tmp_path) as log, running_api(log, projector=False) as served:
        yield served


@pytest.fixture
def make_api() -> Callable[..., Any]:
    """Make an API on a log of the test's own."""
    return running_api
