"""Attempts to connect end at their bound, whatever the server answers and when."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from millstream.errors import LogRefusedError, LogUnavailableError
from millstream.eventlog.connection import connected
from millstream.runtime.settings import Settings


@pytest.mark.anyio
async def test_connections_that_are_refused_at_once_all_end(tmp_path: Path) -> None:
    # The bounds differ, so that some end just as a refusal comes.
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(b'INFO {"auth_required": true}\r\n')
            await reader.readuntil(b"PING\r\n")
            writer.write(b"-ERR 'Authorization Violation'\r\n")
        writer.close()

    async def attempt(settings: Settings, number: int) -> None:
        with pytest.raises((LogRefusedError, LogUnavailableError), match="correct MILLSTREAM_NATS"):
            async with connected(settings, "api", bound_s=0.5 + number / 4000):
                pass

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = Settings(nats_url=f"nats://127.0.0.1:{port}", data_dir=tmp_path)
        await asyncio.gather(*(attempt(settings, number) for number in range(150)))
