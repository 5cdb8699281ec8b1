"""The live feed: whole, in order, whatever the republished messages do."""

import asyncio
import contextlib
import json

import pytest

from millstream.errors import LogUnavailableError
from millstream.eventlog import follow as follow_module
from millstream.eventlog.connection import connected
from millstream.eventlog.follow import follow
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import Stored
from millstream.testing.nats import RunningLog, everything, fill_stream, read_until
from millstream_schemas import subjects

pytestmark = pytest.mark.anyio


async def set_republish(log: EventLog, *, is_on: bool) -> None:
    name = f"$JS.API.STREAM.INFO.{subjects.EVENTS}"
    config = json.loads((await log.answers.ask(name, b"")).data)["config"]
    config.pop("republish", None)
    if is_on:
        config["republish"] = {"src": subjects.ALL_EVENTS, "dest": subjects.LIVE_EVENTS}
    name = f"$JS.API.STREAM.UPDATE.{subjects.EVENTS}"
    answer = await log.answers.ask(name, json.dumps(config).encode())
    assert "error" not in json.loads(answer.data)


def sequences(stored: list[Stored]) -> list[int]:
    return [item.sequence for item in stored]


async def test_history_and_live_events_join_without_gap_or_repeat(running: RunningLog) -> None:
    log = running.event_log
    await fill_stream(log, 1500)
    async with asyncio.TaskGroup() as group, contextlib.aclosing(follow(log, after=10)) as feed:
        group.create_task(fill_stream(log, 3000))
        found = await read_until(feed, 4500)
    assert sequences(found) == list(range(11, 4501))
    assert found == (await everything(log))[10:]


async def test_two_followers_see_the_same(running: RunningLog) -> None:
    log = running.event_log
    async with (
        contextlib.aclosing(follow(log, after=0)) as one,
        contextlib.aclosing(follow(log, after=0)) as other,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(fill_stream(log, 500))
        first = group.create_task(read_until(one, 500))
        second = group.create_task(read_until(other, 500))
    assert first.result() == second.result()
    assert sequences(first.result()) == list(range(1, 501))


async def test_events_that_were_not_republished_are_read_from_the_stream(
    running: RunningLog,
) -> None:
    log = running.event_log
    async with contextlib.aclosing(follow(log, after=0)) as feed:
        await fill_stream(log, 100)
        assert sequences(await read_until(feed, 100)) == list(range(1, 101))
        await set_republish(log, is_on=False)
        await fill_stream(log, 100)
        # Nothing tells of these; the quiet second finds them.
        assert sequences(await read_until(feed, 200)) == list(range(101, 201))
        await fill_stream(log, 50)
        await set_republish(log, is_on=True)
        # The first of these shows the gap.
        await fill_stream(log, 50)
        assert sequences(await read_until(feed, 300)) == list(range(201, 301))


async def test_a_slow_reader_gets_from_the_stream_what_its_queue_could_not_hold(
    running: RunningLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_module, "PENDING_MOST", 10)
    log = running.event_log
    await fill_stream(log, 1)
    async with contextlib.aclosing(follow(log, after=0)) as feed:
        assert sequences(await anext(feed)) == [1]
        await fill_stream(log, 2000)  # nobody reads meanwhile
        assert sequences(await read_until(feed, 2001)) == list(range(2, 2002))


@pytest.mark.fault
async def test_the_feed_goes_on_after_kills_of_the_server(running: RunningLog) -> None:
    log = running.event_log
    async with asyncio.TaskGroup() as group, contextlib.aclosing(follow(log, after=0)) as feed:
        filling = group.create_task(fill_stream(log, 6000))
        found = await read_until(feed, 500)
        for _ in range(2):
            await running.restart()
            found += await read_until(feed, found[-1].sequence + 1)
        await filling
        found += await read_until(feed, 6000) if found[-1].sequence < 6000 else []
    assert sequences(found) == list(range(1, 6001))


async def test_a_closed_connection_ends_the_feed(running: RunningLog) -> None:
    async with connected(running.settings, "reader") as connection:
        feed = follow(EventLog(connection), after=0)
        await fill_stream(running.event_log, 5)
        assert sequences(await read_until(feed, 5)) == [1, 2, 3, 4, 5]
    with pytest.raises(LogUnavailableError):
        await anext(feed)
