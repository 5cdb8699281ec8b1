"""The pull reader: complete and in order, through kills, and quiet on a quiet stream."""

import asyncio
import contextlib
import json
from typing import Any

import pytest

from millstream.errors import LogUnavailableError
from millstream.eventlog import pull as pull_module
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.eventlog.pull import pull
from millstream.eventlog.stored import Stored
from millstream.testing.nats import RunningLog, everything, fill_stream, read_until
from millstream_schemas import subjects

pytestmark = pytest.mark.anyio


async def consumers(log: EventLog) -> list[dict[str, Any]]:
    answer = await log.answers.ask(f"$JS.API.CONSUMER.LIST.{subjects.EVENTS}", b"{}")
    found: list[dict[str, Any]] = json.loads(answer.data)["consumers"]
    return found


def sequences(stored: list[Stored]) -> list[int]:
    return [item.sequence for item in stored]


async def test_all_events_come_once_and_in_order(running: RunningLog) -> None:
    log = running.event_log
    await fill_stream(log, 15_000)
    async with (
        asyncio.TaskGroup() as group,
        contextlib.aclosing(pull(running.connection, after=100, name="test")) as feed,
    ):
        group.create_task(fill_stream(log, 5000))
        found = await read_until(feed, 20_000)
    assert sequences(found) == list(range(101, 20_001))
    stored = await everything(log)
    assert found[:3] == stored[100:103]
    assert [item.payload for item in found] == [item.payload for item in stored[100:]]


async def test_a_list_is_never_longer_than_its_bound(
    running: RunningLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_module, "CHUNK_MOST", 70)
    await fill_stream(running.event_log, 3000)
    lengths = []
    async with contextlib.aclosing(pull(running.connection, after=0, name="test")) as feed:
        async for chunk in feed:
            lengths.append(len(chunk))
            if sum(lengths) == 3000:
                break
    assert max(lengths) <= 70


async def test_a_quiet_stream_gives_empty_lists_and_then_what_comes(running: RunningLog) -> None:
    async with contextlib.aclosing(pull(running.connection, after=0, name="test")) as feed:
        assert await anext(feed) == []
        assert await anext(feed) == []
        await fill_stream(running.event_log, 3)
        assert sequences(await read_until(feed, 3)) == [1, 2, 3]
        assert await anext(feed) == []


async def test_requests_that_run_out_are_replaced_and_none_is_counted_twice(
    running: RunningLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_module, "EXPIRES_S", 2.0)
    monkeypatch.setattr(pull_module, "REQUEST_MESSAGES", 100)
    log = running.event_log
    await fill_stream(log, 30)
    async with contextlib.aclosing(pull(running.connection, after=0, name="test")) as feed:
        await read_until(feed, 30)
        for _ in range(5):  # two and a half expiries of an idle stream
            assert await anext(feed) == []
        [consumer] = await consumers(log)  # the same consumer all the time
        assert consumer["num_waiting"] <= pull_module.OUTSTANDING
        await fill_stream(log, 1000)
        assert sequences(await read_until(feed, 1030)) == list(range(31, 1031))
        [consumer] = await consumers(log)
        assert consumer["num_waiting"] <= pull_module.OUTSTANDING + 1


@pytest.mark.fault
async def test_a_kill_of_the_server_in_mid_read_loses_and_repeats_nothing(
    running: RunningLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_module, "REQUEST_MESSAGES", 50)
    log = running.event_log
    await fill_stream(log, 20_000)
    async with contextlib.aclosing(pull(running.connection, after=0, name="test")) as feed:
        found = await read_until(feed, 2000)
        assert found[-1].sequence < 20_000
        await running.restart()
        found += await read_until(feed, 20_000)
    assert sequences(found) == list(range(1, 20_001))


async def test_a_deleted_consumer_is_made_anew(
    running: RunningLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_module, "REQUEST_MESSAGES", 50)
    log = running.event_log
    await fill_stream(log, 5000)
    async with contextlib.aclosing(pull(running.connection, after=0, name="test")) as feed:
        found = await read_until(feed, 500)
        assert found[-1].sequence < 5000
        [consumer] = await consumers(log)
        name = f"$JS.API.CONSUMER.DELETE.{subjects.EVENTS}.{consumer['name']}"
        assert json.loads((await log.answers.ask(name, b"")).data)["success"]
        found += await read_until(feed, 5000)
        [renewed] = await consumers(log)
    assert renewed["name"] != consumer["name"]
    assert sequences(found) == list(range(1, 5001))


async def test_closing_the_connection_ends_a_reader_that_waits(running: RunningLog) -> None:
    async with connected(running.settings, "reader") as connection:
        feed = pull(connection, after=0, name="test")
        assert await anext(feed) == []
    with pytest.raises(LogUnavailableError):
        await read_until(feed, 1)


async def test_a_reader_is_left_at_once(running: RunningLog) -> None:
    await fill_stream(running.event_log, 10)
    before = running.connection._subs.copy()
    async with contextlib.aclosing(pull(running.connection, after=0, name="test")) as feed:
        await read_until(feed, 10)
    # The inbox of its answers stays for the connection's life; that of the events is gone.
    assert len(running.connection._subs) <= len(before) + 1
