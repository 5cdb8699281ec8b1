"""Fixtures of all tests: asyncio, and a nats-server of one's own with the streams made."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from millstream.eventlog.server import NatsServer
from millstream.testing.nats import RunningLog, running_log
from millstream_projector import tables
from millstream_projector.audit import rebuilding


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A running server without streams."""
    server = NatsServer(tmp_path / "nats")
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningLog]:
    """A running server with the streams made, and one connection to it."""
    async with running_log(tmp_path) as log:
        yield log


_PLAIN_REBUILD = """
import runpy
from dataclasses import replace
from millstream_projector import tables

tables.TABLES = tuple(replace(table, long=frozenset()) for table in tables.TABLES)
runpy.run_module("millstream_projector.audit.rebuild", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def plain_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read models whose files show the bytes of every text: compressed, one is found in no file.

    Those too that a projector of this process has made anew.
    """
    plain = tuple(replace(table, long=frozenset()) for table in tables.TABLES)
    monkeypatch.setattr(tables, "TABLES", plain)
    monkeypatch.setattr(rebuilding, "COMMAND", ("-P", "-c", _PLAIN_REBUILD))
