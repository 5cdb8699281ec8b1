"""The direct lane's HTTP client against a server that plays bytes, good ones and bad ones."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from millstream.testing.waiting import until
from millstream_generator.completion import CallFailedError
from millstream_generator.http_client import HttpClient, make_target
from millstream_generator.http_connection import FINISH_S

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"
PAUSE, CLOSE = "pause", "close"


class Gathered:
    """A receiver that keeps everything; done once it has ``enough``."""

    def __init__(self, enough: bytes = b"\0") -> None:
        self.is_done = False
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.body = b""
        self._enough = enough

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.status, self.headers = status, headers

    def feed(self, data: bytes) -> None:
        self.body += data
        self.is_done = self._enough in self.body


class Player:
    """Plays the same bytes to every request; ``PAUSE`` waits for ``go_on``, ``CLOSE`` hangs up."""

    def __init__(self, parts: Sequence[bytes | str]) -> None:
        self.parts = parts
        self.url = ""
        self.connections = 0
        self.open_connections = 0
        self.requests: list[bytes] = []
        self.go_on = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        try:
            async with asyncio.TaskGroup() as tasks:
                playing = tasks.create_task(self._play(reader, writer))
                await playing
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open_connections -= 1
            writer.close()

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            self.requests.append(head + await reader.readexactly(length))
            for part in self.parts:
                if part == CLOSE:
                    return
                if isinstance(part, bytes):
                    writer.write(part)
                    await writer.drain()
                else:
                    await self._pause(reader)

    async def _pause(self, reader: asyncio.StreamReader) -> None:
        """Wait for ``go_on``, or for the client to hang up."""
        async with asyncio.TaskGroup() as tasks:
            waits = [tasks.create_task(self.go_on.wait()), tasks.create_task(reader.read(1))]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        if not self.go_on.is_set():
            raise ConnectionResetError


@asynccontextmanager
async def playing(*parts: bytes | str) -> AsyncIterator[tuple[Player, HttpClient]]:
    player = Player(parts)
    client = HttpClient()
    server = await asyncio.start_server(player.serve, "127.0.0.1", 0)
    async with server:
        player.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/x?y=z"
        yield player, client
        await client.close()
        await until(lambda: not player.open_connections, what="connections end")


async def post(
    player: Player, client: HttpClient, *, enough: bytes = b"\0", timeout_s: float = 10.0
) -> Gathered:
    gathered = Gathered(enough)
    to = make_target(player.url, {"Authorization": "Bearer k"})
    await client.post(to, b"{}", gathered, timeout_s=timeout_s, stall_s=5.0, header=b"X-One: 1")
    return gathered


async def failure(*parts: bytes | str) -> CallFailedError:
    async with playing(*parts) as (player, client):
        with pytest.raises(CallFailedError) as caught:
            await post(player, client)
    return caught.value


async def test_a_request_has_its_length_its_headers_and_its_host() -> None:
    async with playing(WHOLE) as (player, client):
        gathered = await post(player, client)
    (request,) = player.requests
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/x?y=z HTTP/1.1\r\nHost: 127.0.0.1:")
    assert {b"Authorization: Bearer k", b"X-One: 1", b"Content-Length: 2"} <= set(
        head.split(b"\r\n")
    )
    assert body == b"{}"
    assert (gathered.status, gathered.body) == (200, b"hello")
    assert gathered.headers["content-type"] == "text/event-stream"


async def test_calls_one_after_the_other_share_a_connection() -> None:
    async with playing(WHOLE) as (player, client):
        for _ in range(3):
            assert (await post(player, client)).body == b"hello"
        assert player.connections == 1


@pytest.mark.parametrize(
    "parts",
    [
        (HEAD + b"Content-Length: 5\r\nConnection: close\r\n\r\nhello", CLOSE),
        (HEAD + b"Connection: close\r\n\r\nhel", b"lo", CLOSE),
        (HEAD + b"\r\nhello", CLOSE),
        (b"HTTP/1.1 100 Continue\r\n\r\n", WHOLE, CLOSE),
        (*(WHOLE[place : place + 1] for place in range(len(WHOLE))), CLOSE),
    ],
)
async def test_each_way_to_end_an_answer_is_understood(parts: tuple[bytes | str, ...]) -> None:
    async with playing(*parts) as (player, client):
        for _ in range(2):
            assert (await post(player, client)).body == b"hello"
            await until(lambda: not client._open, what="the server hangs up")
        assert player.connections == 2


@pytest.mark.parametrize(
    "parts",
    [
        (CLOSE,),
        (HEAD, CLOSE),
        (CHUNKED + b"5\r\nhel", CLOSE),
        (HEAD + b"Content-Length: 9\r\n\r\nhello", CLOSE),
        (b"220 mail.example ESMTP\r\n", PAUSE),
        (b"\x16\x03\x01\x00\x00", PAUSE),
        (CHUNKED + b"zz\r\n", PAUSE),
        (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\n\x1f", PAUSE),
        (HEAD + b"X: " + b"x" * 70_000 + b"\r\n\r\n", PAUSE),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", PAUSE),
    ],
)
async def test_what_is_no_whole_answer_fails_as_the_servers_fault(
    parts: tuple[bytes | str, ...],
) -> None:
    assert (await failure(*parts)).category == "server"


async def test_an_answer_is_over_with_its_last_word_and_its_connection_is_kept() -> None:
    async with playing(CHUNKED + b"5\r\nhello\r\n", PAUSE, b"0\r\n\r\n") as (player, client):
        assert (await post(player, client, enough=b"hello")).body == b"hello"
        player.go_on.set()
        await until(lambda: len(client._idle) and any(i.since for i in client._idle.values()))
        assert (await post(player, client, enough=b"hello")).body == b"hello"
        assert player.connections == 1


async def test_an_answer_that_goes_on_after_its_last_word_is_cut_off() -> None:
    async with playing(CHUNKED + b"5\r\nhello\r\n", PAUSE) as (player, client):
        await post(player, client, enough=b"hello")
        assert player.open_connections == 1
        await until(lambda: not player.open_connections, bound_s=FINISH_S + 5, what="the cut")


async def test_a_cancelled_call_hangs_up_at_once() -> None:
    async with playing(PAUSE) as (player, client):
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(post(player, client))
            await until(lambda: bool(player.requests), what="the request")
            call.cancel()
        await until(lambda: not player.open_connections, what="the server is free")


async def test_a_server_that_never_answers_is_a_timeout() -> None:
    async with playing(PAUSE) as (player, client):
        with pytest.raises(CallFailedError) as caught:
            await post(player, client, timeout_s=0.2)
        assert caught.value.category == "timeout"
        await until(lambda: not player.open_connections, what="the server is free")


async def test_many_calls_at_once_each_get_their_own_answer() -> None:
    async with playing(WHOLE) as (player, client):
        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(post(player, client)) for _ in range(50)]
        assert [call.result().body for call in calls] == [b"hello"] * 50
        assert player.connections <= 50
        await post(player, client)
        assert player.connections <= 50
