"""Clients of event streams that others wrote read both streams, over a killed and restarted API."""

import asyncio
import contextlib
import functools
import json
import os
import subprocess
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import httpx
import pytest
import requests
from aiosseclient import aiosseclient
from httpx_sse import connect_sse
from requests_sse import EventSource
from sseclient import SSEClient

from millstream.testing import page_sources
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import RunningLog, everything, fill_stream, running_log
from millstream.testing.service_process import ApiProcess
from millstream.testing.waiting import until

pytestmark = pytest.mark.anyio

EVENTS = "/v1/stream?flavour=events"
SEED = "/api/generate/batch/stream"
SILENCE_S = 20
PAUSE_S = 0.05
BEFORE, AWAY = 300, 200
ROOT = Path(__file__).parents[3]
CUT = (OSError, httpx.TransportError, requests.RequestException, aiohttp.ClientError)
"""How a cut connection, or nobody listening, shows."""


class Message(NamedTuple):
    """What every client tells of an event."""

    last_id: str
    name: str
    data: str


Connect = Callable[[str, str], Generator[Message]]


def with_httpx_sse(url: str, last_id: str) -> Generator[Message]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with (
        httpx.Client(timeout=SILENCE_S) as client,
        connect_sse(client, "GET", url, headers=headers) as source,
    ):
        for event in source.iter_sse():
            yield Message(event.id, event.event, event.data)


def with_sseclient(url: str, last_id: str) -> Generator[Message]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with requests.get(url, headers=headers, stream=True, timeout=SILENCE_S) as answer:
        for event in SSEClient(iter(answer)).events():
            yield Message(event.id or last_id, event.event, event.data)


def with_requests_sse(url: str, last_id: str) -> Generator[Message]:
    """This one comes back by itself."""
    source = EventSource(
        url,
        timeout=SILENCE_S,
        latest_event_id=last_id or None,
        reconnection_time=timedelta(milliseconds=50),
    )
    with source:
        for event in source:
            yield Message(event.last_event_id, event.type or "message", event.data or "")


async def with_aiosseclient(url: str, last_id: str) -> AsyncGenerator[Message]:
    known = last_id
    source = aiosseclient(url, last_id=last_id or None, raise_for_status=True)
    async with contextlib.aclosing(source) as events:
        async for event in events:
            known = event.id or known
            yield Message(known, event.event, event.data)


def with_npm(client: str, url: str, last_id: str) -> Generator[Message]:
    """Follow in a process of Node's; there too the client comes back by itself."""
    url += f"{'&' if '?' in url else '?'}last_event_id={last_id}"
    silence_ms, names = str(SILENCE_S * 1000), ("message", "slice.claimed.v1")
    command = [page_sources.NODE, "follow.mjs", client, url, silence_ms, *names]
    folder = ROOT / page_sources.CLIENTS
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout or ():
                yield Message(*json.loads(line))
        finally:
            process.kill()


LACKING = page_sources.missing(ROOT, page_sources.CLIENTS)
FROM_NPM = [name for name in ("eventsource", "eventsource-parser") if name not in LACKING]
CLIENTS: dict[str, Connect] = {
    **{name: functools.partial(with_npm, name) for name in FROM_NPM},
    "httpx-sse": with_httpx_sse,
    "sseclient-py": with_sseclient,
    "requests-sse": with_requests_sse,
}


class Reader:
    """Follows a stream with one client, as its documents say: again after a cut, from the id."""

    def __init__(self, url: str, last_id: str, is_done: Callable[[list[Message]], bool]) -> None:
        self._url = url
        self._last_id = last_id
        self._is_done = is_done
        self._is_over = threading.Event()
        self.messages: list[Message] = []

    def follow(self, connect: Connect) -> None:
        while not self.is_done:
            with (
                contextlib.suppress(*CUT),
                contextlib.closing(connect(self._url, self._last_id)) as messages,
            ):
                for message in messages:
                    self.take(message)
                    if self.is_done:
                        return
            self._is_over.wait(PAUSE_S)

    async def follow_async(self) -> None:
        while not self.is_done:
            with contextlib.suppress(*CUT):
                async with contextlib.aclosing(
                    with_aiosseclient(self._url, self._last_id)
                ) as messages:
                    async for message in messages:
                        self.take(message)
                        if self.is_done:
                            return
            await asyncio.sleep(PAUSE_S)

    def take(self, message: Message) -> None:
        self._last_id = message.last_id
        # Two of the clients tell of a block that holds nothing but `retry`, too.
        if message.data and message.name != "heartbeat":
            self.messages.append(message)

    @property
    def is_done(self) -> bool:
        return self._is_over.is_set() or self._is_done(self.messages)

    def end(self) -> None:
        """Let a thread that still follows end with its next message, or when the server ends."""
        self._is_over.set()


@contextlib.asynccontextmanager
async def reading(
    url: str, last_id: str, is_done: Callable[[list[Message]], bool]
) -> AsyncIterator[dict[str, Reader]]:
    """Let every client read ``url`` until each is done."""
    readers = {name: Reader(url, last_id, is_done) for name in (*CLIENTS, "aiosseclient")}
    async with asyncio.TaskGroup() as tasks:
        for name, connect in CLIENTS.items():
            tasks.create_task(asyncio.to_thread(readers[name].follow, connect))
        tasks.create_task(readers["aiosseclient"].follow_async())
        try:
            yield readers
        except BaseException:
            for reader in readers.values():
                reader.end()
            raise


def test_the_clients_from_npm_are_among_them() -> None:
    if LACKING:
        words = f"{', '.join(LACKING)} not installed; run: uv run just page-tools"
        # A skipped test must not pass for tested clients where nobody reads the output.
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(words)
    assert {"eventsource", "eventsource-parser"} <= set(CLIENTS)


async def test_foreign_clients_get_every_event_once_over_a_killed_server(tmp_path: Path) -> None:
    whole = BEFORE + AWAY
    async with running_log(tmp_path) as log:
        await fill_stream(log.event_log, BEFORE)
        with ApiProcess(tmp_path / "api.log", log.server.url) as api:
            async with reading(api.url + EVENTS, "0", lambda got: len(got) >= whole) as readers:
                await until(lambda: all(one.messages for one in readers.values()))
                api.kill()
                await fill_stream(log.event_log, AWAY)
                await asyncio.to_thread(api.launch)
        stored = [
            (str(one.sequence), one.payload.decode()) for one in await everything(log.event_log)
        ]
    assert len(stored) == whole
    for name, reader in readers.items():
        found = [(one.last_id.partition("-")[0], one.data) for one in reader.messages]
        assert found == stored, name


async def _append(log: RunningLog, script: Script, placed: int) -> int:
    """Append what the script added to its first ``placed`` events; returns how many it has."""
    for entry in script.tape.entries[placed:]:
        await log.event_log.append(entry.recorded.event, expected=entry.expected)
    return len(script.tape.entries)


def _last_state(messages: list[Message], batch_id: str) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for message in messages:
        body = json.loads(message.data)
        if body["type"] == "all_batches":
            state = body["batches"].get(batch_id, state)
        elif body["batch_id"] == batch_id:
            state = body["batch"]
    return state


async def test_foreign_clients_end_with_the_true_state_on_the_older_stream(tmp_path: Path) -> None:
    script = Script(spec=example_spec(6, slice_size=3))
    script.start()
    script.claim(0)
    script.claim(1)
    async with running_log(tmp_path) as log:
        placed = await _append(log, script, 0)
        with ApiProcess(tmp_path / "api.log", log.server.url) as api:

            def has_ended(messages: list[Message]) -> bool:
                return _last_state(messages, script.batch_id).get("running") is False

            def knows_three(reader: Reader) -> bool:
                state = _last_state(reader.messages, script.batch_id)
                return bool(state.get("samples_generated") == 3)

            async with reading(api.url + SEED, "", has_ended) as readers:
                await until(lambda: all(one.messages for one in readers.values()))
                api.kill()
                for slot in range(3):
                    script.generate(slot)
                placed = await _append(log, script, placed)
                await asyncio.to_thread(api.launch)
                await until(lambda: all(knows_three(one) for one in readers.values()))
                for slot in range(3, 6):
                    script.generate(slot)
                script.complete()
                await _append(log, script, placed)
    for name, reader in readers.items():
        state = _last_state(reader.messages, script.batch_id)
        assert (state["samples_generated"], state["total"]) == (6, 6), name
        assert {one.name for one in reader.messages} == {"message"}, name
