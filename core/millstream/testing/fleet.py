"""A cluster of processes under the hand of a test: any of them is killed, frozen, started again.

Unlike `Stack`, nobody brings a dead process back but the test itself, so that another node has
to take over. The models are a `counting_llm`'s, which is nobody's ally.
"""

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx

from millstream.errors import LogError
from millstream.eventlog.buckets import Bucket
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.eventlog.nodes import Nodes
from millstream.eventlog.server import NatsServer, free_port
from millstream.eventlog.stored import decode
from millstream.runtime.clock import boot_seconds, utc_now
from millstream.runtime.settings import load_settings
from millstream.testing.audit import FINAL_EVENTS
from millstream.testing.deaf import DeafProxy
from millstream.testing.service_process import ServiceProcess
from millstream.testing.waiting import BOUND_S
from millstream_schemas import subjects
from millstream_schemas.envelope import BatchEvent

NATS = "nats-server"
POLL_S = 0.02
LOG_TAIL = 4000
FAILING = ("error-429", "error-500-after-64", "error-429-after-64")
FAILING_MOST = 50
"""So many routes fail in each way: one that failed is blocked for a while."""
NUMBERED = tuple(f"{name}.{number}" for name in FAILING for number in range(FAILING_MOST))
MODELS = ("ms-50", "ms-200", "ms-30000", *FAILING, *NUMBERED)
_MODEL = """
[[models]]
id = "counting/{name}"
[[models.routes]]
litellm_model = "openai/{name}"
model = "counting/{name}"
provider = "simulated"
input_usd_per_million = 1.0
output_usd_per_million = 2.0
"""


class Fleet:
    """nats-server, API, generators ``g1`` and on, and a counting model server, each a process.

    ``settings`` are those of the generators (lower case, no prefix). These never hear what comes
    on the subjects ``deaf_to``. An async context manager.
    """

    def __init__(
        self,
        generators: int = 2,
        *,
        deaf_to: Collection[str] = (),
        **settings: str,
    ) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="millstream-fleet-"))
        self._settings = settings
        self._deaf_to = deaf_to
        self._exits = AsyncExitStack()
        self._launched: dict[str, datetime] = {}
        self._made = 0
        self.nats = NatsServer(self._directory / "nats")
        self.generators = [f"g{number}" for number in range(1, generators + 1)]
        self.services: dict[str, ServiceProcess] = {}
        self.frozen: set[str] = set()
        self.swallowed: set[str] = set()
        self.url = f"http://127.0.0.1:{free_port()}"
        self.llm_url = f"http://127.0.0.1:{free_port()}"

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def _start(self) -> None:
        await self.nats.start()
        self.http = await self._exits.enter_async_context(httpx.AsyncClient(timeout=60))
        settings = load_settings(nats_url=self.nats.url, data_dir=self._directory)
        connection = await self._exits.enter_async_context(connected(settings, "fleet"))
        self.event_log = EventLog(connection)
        self._make("llm", "millstream.testing.counting_llm", self.llm_url)
        models = self._directory / "models.toml"
        models.write_text("".join(_MODEL.format(name=name) for name in MODELS), encoding="utf-8")
        common = {"models_file": str(models), "simulated_url": self.llm_url}
        self._make("api", "millstream_api", self.url, **common)
        if self._deaf_to:
            proxy = DeafProxy(self.nats.port, self._deaf_to)
            common["nats_url"] = (await self._exits.enter_async_context(proxy)).url
            self.swallowed = proxy.swallowed
        self._settings = {**common, **self._settings}
        for name in self.generators:
            self._make_generator(name)
        for name in ("llm", "api", *self.generators):
            self.launch(name)
        for url in (f"{self.llm_url}/health", f"{self.url}/readyz"):
            await self.until(partial(self._answers, url), BOUND_S, url)
        for name in self.generators:
            await self.wait_ready(name)

    def _make(self, name: str, module: str, url: str = "", **settings: str) -> None:
        common = {
            "nats_url": self.nats.url,
            "data_dir": str(self._directory),
            "node": name,
            "log_level": "warning",
            "port": url.rpartition(":")[2] or "0",
        }
        log_file = self._directory / f"{name}.log"
        self.services[name] = ServiceProcess(module, log_file, **{**common, **settings})

    def _make_generator(self, name: str) -> None:
        self._made += 1
        self._make(name, "millstream_generator", **self._settings)

    async def _stop(self) -> None:
        for name in list(self.frozen):
            self.thaw(name)
        for service in reversed(self.services.values()):
            service.kill()
        await self._exits.aclose()
        await self.nats.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def launch(self, name: str) -> None:
        """Start a service that does not run; `wait_ready` tells when it works."""
        self._launched[name] = utc_now()
        self.services[name].launch()

    def replace(self, name: str) -> str:
        """Launch another node in the place of one that was killed; returns its name."""
        self.generators.remove(name)
        del self.services[name]
        successor = f"g{self._made + 1}"
        self._make_generator(successor)
        self.generators.append(successor)
        self.launch(successor)
        return successor

    async def wait_ready(self, name: str) -> None:
        """Return once a generator that was launched beats."""
        await self.until(lambda: self._beats_since(name, self._launched[name]), BOUND_S, name)

    async def wait_awake(self, name: str) -> None:
        """Return once a generator has written a beat after now."""
        started = await self._revision(name)

        async def has_beaten() -> bool:
            return await self._revision(name) not in {started, 0}

        await self.until(has_beaten, BOUND_S, f"a beat of {name}")

    async def _beats_since(self, name: str, at: datetime) -> bool:
        found = await Nodes(self.event_log.answers).live()
        return any(beat.node == name and beat.started_at >= at for beat in found)

    async def _revision(self, name: str) -> int:
        entry = await self._nodes().get(f"generator.{name}")
        return entry.revision if entry else 0

    async def leader(self) -> str:
        """Return the node whose dispatcher leads, empty when none does."""
        entry = await self._nodes().get("dispatcher")
        return entry.value.decode() if entry else ""

    def _nodes(self) -> Bucket:
        return Bucket(self.event_log.answers, subjects.NODES_BUCKET)

    async def wait_pulling(self, nodes: int) -> None:
        """Return once exactly ``nodes`` nodes wait for work: a frozen one's wish runs out.

        What is queued then goes to none of those that can't take it.
        """
        consumer = subjects.work_consumer("default", "normal")
        subject = f"$JS.API.CONSUMER.INFO.{subjects.WORK}.{consumer}"

        async def pulling() -> bool:
            answer = await self.event_log.answers.ask(subject, b"", timeout_s=5)
            return bool(json.loads(answer.data).get("num_waiting") == nodes)

        await self.until(pulling, BOUND_S, f"{nodes} nodes that wait for work")

    def pid(self, name: str) -> int:
        """Return the id of a running process."""
        return self.nats.pid if name == NATS else self.services[name].pid

    def kill(self, name: str) -> float:
        """Kill a process as ``kill -9`` does; returns when, on the wall clock."""
        self.frozen.discard(name)
        at = utc_now().timestamp()
        if name == NATS:
            self.nats.kill()
        else:
            self.services[name].kill()
        return at

    def freeze(self, name: str) -> float:
        """Stop a process in mid-air (SIGSTOP); returns when, on the wall clock."""
        os.kill(self.pid(name), signal.SIGSTOP)
        self.frozen.add(name)
        return utc_now().timestamp()

    def thaw(self, name: str) -> None:
        """Let a frozen process go on (SIGCONT)."""
        os.kill(self.pid(name), signal.SIGCONT)
        self.frozen.discard(name)

    async def start_batch(self, target: int, model: str = "counting/ms-50", **fields: Any) -> str:
        """Start a batch through the API and return its id."""
        body = {"target": target, "model": model, **fields}
        return str((await self._ask("POST", "/v1/batches", body))["batch"]["id"])

    async def stop_batch(self, batch_id: str, **fields: Any) -> None:
        """Ask for the end of a batch."""
        await self._ask("POST", f"/v1/batches/{batch_id}/stop", fields)

    async def _ask(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self.http.request(method, self.url + path, json=body)
        return dict(answer.raise_for_status().json())

    async def calls(self, batch_id: str) -> list[dict[str, Any]]:
        """Return the calls of a batch as the model server saw them, in order of arrival."""
        found = await self.http.get(f"{self.llm_url}/calls/{batch_id}")
        return list(found.raise_for_status().json())

    async def count(self, batch_id: str) -> tuple[int, int]:
        """Return how many calls of a batch arrived, and how many of them are open now."""
        found = (await self.http.get(f"{self.llm_url}/count/{batch_id}")).json()
        return found["arrived"], found["open"]

    async def wait_arrived(self, batch_id: str, calls: int, limit_s: float = BOUND_S) -> None:
        """Return once the model server saw ``calls`` calls of a batch."""

        async def arrived() -> bool:
            return (await self.count(batch_id))[0] >= calls

        await self.until(arrived, limit_s, f"{calls} calls of {batch_id}")

    async def last_event(self, batch_id: str) -> BatchEvent | None:
        """Return the batch's last control event, None while the log can't tell."""
        try:
            stored = await self.event_log.last(subjects.control(batch_id))
        except LogError:
            return None
        recorded = decode(stored) if stored else None
        return recorded.event if recorded else None

    async def wait_final(self, batch_id: str, limit_s: float = BOUND_S) -> None:
        """Return once the batch has ended."""

        async def ended() -> bool:
            return isinstance(await self.last_event(batch_id), FINAL_EVENTS)

        await self.until(ended, limit_s, f"the end of {batch_id}")

    async def _answers(self, url: str) -> bool:
        try:
            return (await self.http.get(url)).status_code == 200
        except httpx.TransportError:
            return False

    async def until(
        self, condition: Callable[[], Awaitable[bool]], limit_s: float, what: str
    ) -> None:
        """Return once ``condition`` is true.

        Raises:
            TimeoutError: it stayed false for ``limit_s`` seconds; the services' logs are quoted.
        """
        deadline = boot_seconds() + limit_s
        while not await condition():
            if boot_seconds() > deadline:
                raise TimeoutError(f"{what} did not come within {limit_s:g} s\n{self.logs()}")
            await asyncio.sleep(POLL_S)

    def logs(self) -> str:
        """Return the end of each service's log."""
        parts = (f"{name}: {one.log()[-LOG_TAIL:]}" for name, one in self.services.items())
        return "\n".join(parts)
