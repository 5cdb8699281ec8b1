"""A client that reads nothing costs the others nothing, and is cut off in the end."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.waiting import until
from millstream_api.auth import Guard
from millstream_api.gateway import Gateway
from millstream_api.page import Page
from millstream_api.relay.endpoint import Relay
from millstream_api.relay.hub import Hub
from millstream_api.server import bind, serve

pytestmark = pytest.mark.anyio

EPOCH = "0a1b2c3d"


async def no_api(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("only streams are asked for here")


async def test_a_reader_that_takes_nothing_is_conflated_then_cut_off(tmp_path: Path) -> None:
    hub = Hub(stuck_s=0.5)
    scripts = []
    for number in range(200):
        spec = example_spec(4, slice_size=2, instruction="x" * 2000)
        made = Script(batch_id=f"batch_1767225600_{number:08x}", spec=spec)
        made.start()
        scripts.append(made)
    hub.restore([made.state for made in scripts], 1, EPOCH)
    hub.ready.set()
    gateway = Gateway(api=no_api, relay=Relay(hub), page=Page(tmp_path), guard=Guard("127.0.0.1"))
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        clocks = [tasks.create_task(hub.flush_changes()), tasks.create_task(hub.cut_stuck())]
        serving = tasks.create_task(serve(gateway, hub, listener, stop))
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await asyncio.to_thread(deaf.connect, ("127.0.0.1", port))
            deaf.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: bool(hub.clients))
            sequence = 1
            cut = False
            while not cut:
                sequence += 1
                made = scripts[sequence % len(scripts)]
                hub.put(made.state, sequence)
                await asyncio.sleep(0.001)
                cut = not hub.clients
                assert sequence < 60_000, "the reader that takes nothing was never cut off"
        stop.set()
        await serving
        for task in clocks:
            task.cancel()
