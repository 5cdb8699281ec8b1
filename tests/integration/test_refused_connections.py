"""Attempts to connect end at their bound, whatever the server answers and when."""

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from nats.aio.client import Client

from millstream.errors import LogRefusedError, LogUnavailableError
from millstream.eventlog import connection as connection_module
from millstream.eventlog.connection import UserConnection, connected
from millstream.runtime.settings import Settings
from millstream.testing.nats import RunningLog


async def answer_refusal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b'INFO {"auth_required": true}\r\n')
    await reader.readuntil(b"PING\r\n")
    writer.write(b"-ERR 'Authorization Violation'\r\n")


@pytest.mark.anyio
async def test_connections_that_are_refused_at_once_all_end(tmp_path: Path) -> None:
    # The bounds differ, so that some end just as a refusal comes.
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # An attempt may end before it has said anything.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await answer_refusal(reader, writer)
        writer.close()

    async def attempt(settings: Settings, number: int) -> None:
        with pytest.raises((LogRefusedError, LogUnavailableError), match="correct MILLSTREAM_NATS"):
            async with connected(settings, "api", bound_s=0.5 + number / 4000):
                pass

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = Settings(nats_url=f"nats://127.0.0.1:{port}", data_dir=tmp_path)
        await asyncio.gather(*(attempt(settings, number) for number in range(150)))


@pytest.mark.anyio
async def test_an_attempt_cancelled_as_it_closes_its_socket_leaves_none_open() -> None:
    has_ended = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer_refusal(reader, writer)
        assert await reader.read() == b""
        writer.close()
        has_ended.set()

    async def cancel_soon(_: Exception) -> None:
        asyncio.get_running_loop().call_soon(connecting.cancel)

    client = UserConnection(None)
    async with (
        await asyncio.start_server(refuse, "127.0.0.1", 0) as server,
        asyncio.timeout(90),
    ):
        port = server.sockets[0].getsockname()[1]
        async with asyncio.TaskGroup() as tasks:
            connect = client.connect(
                f"nats://127.0.0.1:{port}", error_cb=cancel_soon, max_reconnect_attempts=-1
            )
            connecting = tasks.create_task(connect)
        assert connecting.cancelled()
        await client.close()
        await has_ended.wait()


@pytest.mark.anyio
async def test_an_attempt_to_come_back_that_fails_leaves_no_connection_open() -> None:
    connections = 0
    has_ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            writer.write(b'INFO {"max_payload": 1000}\r\n')
            await reader.readuntil(b"PING\r\n")
            writer.write(b"PONG\r\n")
        else:
            writer.write(b"not yet\r\n")
            with contextlib.suppress(ConnectionError):
                await reader.read()
            has_ended.set()
        writer.close()

    async def ignore(_: Exception) -> None:
        """What fails is told; here it is meant to."""

    client = UserConnection(None)
    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0) as server,
        asyncio.timeout(90),
    ):
        port = server.sockets[0].getsockname()[1]
        await client.connect(
            f"nats://127.0.0.1:{port}",
            error_cb=ignore,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.1,  # type: ignore[arg-type]  # seconds; floats work
        )
        await has_ended.wait()
        await client.close()


@pytest.mark.anyio
async def test_a_lost_connection_over_tls_with_words_unsent_is_closed_in_peace() -> None:
    authority = trustme.CA()
    of_server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(of_server)
    of_client = ssl.create_default_context()
    authority.configure_trust(of_client)
    has_failed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"max_payload": 1000, "tls_required": true}\r\n')
        await writer.start_tls(of_server)
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    async def note(error: Exception) -> None:
        if isinstance(error, ConnectionRefusedError):
            has_failed.set()

    client = UserConnection(None)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with asyncio.timeout(90):
        port = server.sockets[0].getsockname()[1]
        await client.connect(
            f"tls://127.0.0.1:{port}",
            tls=of_client,
            tls_hostname="127.0.0.1",
            error_cb=note,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.1,  # type: ignore[arg-type]  # seconds; floats work
        )
        server.close()
        # What the client does when it finds the connection stale.
        await client._process_op_err(OSError("stale"))
        await has_failed.wait()
        await client.publish("subject", b"unsent")
        with contextlib.suppress(ConnectionError):
            await client.close()
        await server.wait_closed()
    assert client.is_closed


@pytest.mark.anyio
async def test_a_connection_to_a_peer_that_reads_nothing_is_closed_at_its_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "DRAIN_BOUND_S", 0.2)
    is_over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"max_payload": 9000000}\r\n')
        await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n")
        await is_over.wait()
        writer.close()

    client = UserConnection(None)
    async with (
        await asyncio.start_server(serve, "127.0.0.1", 0) as server,
        asyncio.timeout(90),
    ):
        port = server.sockets[0].getsockname()[1]
        await client.connect(f"nats://127.0.0.1:{port}", max_reconnect_attempts=-1)
        transport = client._transport._io_writer.transport
        publishing = asyncio.create_task(client.publish("subject", bytes(8_000_000)))  # noqa: TID251
        while not transport.get_write_buffer_size():
            await asyncio.sleep(0)
        await connection_module._close(client)
        assert (transport.is_closing(), transport.get_write_buffer_size()) == (True, 0)
        is_over.set()
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)


@pytest.mark.anyio
async def test_a_connection_made_as_its_user_is_cancelled_is_closed(
    running: RunningLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Client] = []
    connect = UserConnection.connect

    async def connect_and_cancel(client: UserConnection, **options: Any) -> None:
        await connect(client, **options)
        made.append(client)
        using.cancel()

    async def use() -> None:
        async with connected(settings, "api"):
            pass

    monkeypatch.setattr(UserConnection, "connect", connect_and_cancel)
    settings = Settings(nats_url=running.server.url, data_dir=tmp_path)
    async with asyncio.TaskGroup() as tasks:
        using = tasks.create_task(use())
    assert using.cancelled()
    assert [client.is_closed for client in made] == [True]
