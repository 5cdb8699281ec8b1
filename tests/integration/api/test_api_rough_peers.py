"""Peers that come and go, say half of what they should, or find the log gone: nothing is left."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from millstream.cli.sse import Parser, ServerEvent
from millstream.testing.followers import EVENTS, NAMED, SEED, sequence_of
from millstream.testing.nats import everything, fill_stream, running_log
from millstream.testing.service_process import ApiProcess
from millstream.testing.waiting import BOUND_S, POLL_S, until

pytestmark = pytest.mark.anyio

CONNECTS, TOGETHER = 1_000, 100
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER for a close that resets the connection."""


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[ApiProcess]:
    async with running_log(tmp_path) as log:
        with ApiProcess(tmp_path / "api.log", log.server.url) as api:
            yield api


def head(path: str, method: str = "GET", *more: str) -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: localhost", *more, "", "")).encode()


async def clients(client: httpx.AsyncClient) -> float:
    """Return how many streams the API counts."""
    lines = (await client.get("/metrics")).text.splitlines()
    found = [line for line in lines if line.startswith("millstream_stream_clients{")]
    return sum(float(line.rpartition(" ")[2]) for line in found)


async def test_a_thousand_connects_and_disconnects_leave_nothing_behind(
    process: ApiProcess,
) -> None:
    loop = asyncio.get_running_loop()

    async def touch(number: int) -> None:
        """Ask for a stream and reset the connection: at once, or when the first bytes came."""
        with socket.socket() as peer:
            peer.setblocking(False)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            await loop.sock_connect(peer, ("127.0.0.1", process.port))
            await loop.sock_sendall(peer, head((NAMED, SEED, EVENTS)[number % 3]))
            if number % 2:
                await loop.sock_recv(peer, 1000)

    async with httpx.AsyncClient(base_url=process.url, timeout=20) as client:
        await client.get("/healthz")
        files = psutil.Process(process.pid).num_fds()
        for start in range(0, CONNECTS, TOGETHER):
            async with asyncio.TaskGroup() as tasks:
                for number in range(start, start + TOGETHER):
                    tasks.create_task(touch(number))
        await until(lambda: psutil.Process(process.pid).num_fds() <= files)
        async with asyncio.timeout(BOUND_S):
            while await clients(client):
                await asyncio.sleep(POLL_S)
    process.terminate()
    assert process.exit_code == 0
    assert "Traceback" not in process.log()


async def test_half_a_request_or_half_a_connection_holds_up_nobody(process: ApiProcess) -> None:
    said = [
        b"",
        b"GET /v1/str",
        head("/v1/batches", "POST", "Content-Length: 100", "Content-Type: application/json")
        + b'{"target":',
        head(NAMED),
        head(EVENTS),
    ]
    with contextlib.ExitStack() as held:
        peers = [
            held.enter_context(socket.create_connection(("127.0.0.1", process.port)))
            for _ in range(5 * len(said))
        ]
        for number, peer in enumerate(peers):
            peer.sendall(said[number % len(said)])
            if number >= 3 * len(said):
                peer.shutdown(socket.SHUT_WR)  # it will say no more, but does not go either
        async with httpx.AsyncClient(base_url=process.url, timeout=20) as client:
            started = await client.post("/v1/batches", json={"target": 1})
            assert started.status_code == 201
            assert (await client.get("/v1/stuck")).status_code == 200
        process.terminate()  # raises when it does not end in time
    assert process.exit_code == 0
    assert "Traceback" not in process.log()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_stream_is_read_alone(lone_api: Any, method: str) -> None:
    for path in (NAMED, SEED):
        answer = await lone_api.client.request(method, path, content=b"{}")
        assert answer.status_code == 405, path
        assert "GET" in answer.headers["allow"]


async def test_readers_are_told_when_the_log_goes_and_get_all_of_it_when_it_is_back(
    lone_api: Any,
) -> None:
    """As long as it takes to be noticed; how much longer it lasts changes nothing."""
    log = lone_api.log
    await fill_stream(log.event_log, 20)
    got: list[ServerEvent] = []
    connects = 0

    async def read() -> None:
        nonlocal connects
        connects += 1
        parser = Parser("0")
        headers = {"Last-Event-ID": "0"}
        async with lone_api.client.stream("GET", EVENTS, headers=headers, timeout=None) as answer:
            async for chunk in answer.aiter_raw():
                got.extend(parser.feed(chunk))

    def told(*, is_away: bool) -> bool:
        beats = [json.loads(event.data) for event in got if event.name == "heartbeat"]
        return bool(beats) and beats[-1]["log_away"] is is_away

    def sequences() -> list[int]:
        return [sequence_of(event.last_id) for event in got if event.name != "heartbeat"]

    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read())
        await until(lambda: len(sequences()) == 20 and told(is_away=False))
        log.server.kill()
        await log.server.wait()
        await until(lambda: told(is_away=True))
        await log.server.start()
        await until(lambda: told(is_away=False))
        await fill_stream(log.event_log, 20)
        await until(lambda: len(sequences()) >= 40)
        reading.cancel()
    assert connects == 1
    assert sequences() == [one.sequence for one in await everything(log.event_log)]
