"""A process that stood still does not blame the provider for what it has not read meanwhile."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from millstream.testing.waiting import BOUND_S
from millstream_generator.completion import CallFailedError
from millstream_generator.http_client import HttpClient, make_target
from millstream_generator.patience import STOOD_STILL_S, PatientTimeout

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
REST = b"4\r\nlast\r\n0\r\n\r\n"
STALL_S = 0.3


class Provider(threading.Thread):
    """Answers one request in two parts: ``rest`` once it is told that the other side is frozen."""

    def __init__(self, rest: bytes) -> None:
        super().__init__(daemon=True)
        self.frozen, self.sent = threading.Event(), threading.Event()
        self._rest = rest
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]

    def run(self) -> None:
        with self._listening, self._listening.accept()[0] as connection:
            connection.recv(65_536)
            connection.sendall(HEAD)
            assert self.frozen.wait(BOUND_S)
            connection.sendall(self._rest)
            self.sent.set()
            connection.recv(1)  # till the other side hangs up


class Frozen:
    """A receiver whose process stands still for longer than a stall, in the middle of an answer."""

    is_done = False

    def __init__(self, provider: Provider) -> None:
        self.body = b""
        self._provider = provider

    def begin(self, status: int, _headers: object) -> None:
        assert status == 200

    def feed(self, data: bytes) -> None:
        self.body += data
        stand_still(self._provider)


def stand_still(provider: Provider) -> None:
    """Hold the loop up until the rest is sent and the stall's timer is overdue."""
    if provider.frozen.is_set():
        return
    until = time.monotonic() + STALL_S + STOOD_STILL_S + 0.2
    provider.frozen.set()
    assert provider.sent.wait(BOUND_S)
    while time.monotonic() < until:
        time.sleep(0.05)


@pytest.fixture(params=[REST, b""], ids=["answered", "silent"])
def provider(request: pytest.FixtureRequest) -> Iterator[Provider]:
    made = Provider(request.param)
    made.start()
    yield made
    made.join(BOUND_S)


async def by_the_direct_lane(provider: Provider) -> bytes:
    client = HttpClient()
    receiver = Frozen(provider)
    to = make_target(f"http://127.0.0.1:{provider.port}/v1", {})
    try:
        await client.post(to, b"{}", receiver, timeout_s=60.0, stall_s=STALL_S)
    finally:
        await client.close()
    return receiver.body


async def by_a_bound_around_each_piece(provider: Provider) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", provider.port)
    writer.write(b"POST / HTTP/1.1\r\n\r\n")
    body = await reader.read(100)
    ours, theirs = socket.socketpair()
    # In a callback of input: the timers come before what is read next.
    asyncio.get_running_loop().add_reader(ours, stand_still, provider)
    theirs.send(b"now")
    try:
        while not body.endswith(REST):
            async with PatientTimeout(STALL_S):
                body += await reader.read(100)
    except TimeoutError as error:
        message = "the answer stalled"
        raise CallFailedError("timeout", message) from error
    finally:
        asyncio.get_running_loop().remove_reader(ours)
        for end in (ours, theirs, writer):
            end.close()
    return body


@pytest.mark.parametrize("read", [by_the_direct_lane, by_a_bound_around_each_piece])
def test_what_came_while_a_process_stood_still_is_read_before_it_is_missed(
    provider: Provider,
    read: Callable[[Provider], Coroutine[Any, Any, bytes]],
    request: pytest.FixtureRequest,
) -> None:
    if "silent" in request.node.callspec.id:
        with pytest.raises(CallFailedError, match="the answer stalled"):
            uvloop.run(read(provider))
    else:
        assert b"last" in uvloop.run(read(provider))
