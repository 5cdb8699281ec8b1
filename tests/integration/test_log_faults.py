"""Appends through lost answers, kills of the server and a full store."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from millstream.errors import LogError, LogFullError, LogUnavailableError
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.testing.nats import RunningLog, SilentProxy, claim, everything, running_log
from millstream.testing.waiting import BOUND_S, until
from millstream_schemas import events

pytestmark = pytest.mark.anyio


async def stored_ids(log: EventLog) -> list[str]:
    return [events.parse(stored.payload).id for stored in await everything(log)]


async def test_a_lost_answer_is_resolved_by_the_events_own_id(
    running: RunningLog, tmp_path: Path
) -> None:
    async with SilentProxy(running.server.port) as proxy:
        settings = running.settings.model_copy(update={"nats_url": proxy.url})
        async with connected(settings, "proxied") as connection:
            log = EventLog(connection)
            await log.append(claim(0), expected=0)
            for number, count in ((2, 1), (3, 1), (4, 5)):
                before = len(await everything(running.event_log))
                proxy.mute()
                chain = [claim(0, number) for _ in range(count)]
                async with asyncio.TaskGroup() as group:
                    appending = group.create_task(log.append_chain(chain, expected=before))
                    await until_stored(running.event_log, before + count)
                    proxy.cut()
                assert appending.result() == before + count
    stored = await stored_ids(running.event_log)
    assert len(stored) == len(set(stored)) == 8


async def until_stored(log: EventLog, sequence: int) -> None:
    async with asyncio.timeout(BOUND_S):
        while (await log.head()).last < sequence:
            await asyncio.sleep(0.01)


async def test_a_rival_between_a_lost_answer_and_its_resolution_does_not_hide_the_append(
    running: RunningLog,
) -> None:
    async with SilentProxy(running.server.port) as proxy:
        settings = running.settings.model_copy(update={"nats_url": proxy.url})
        async with connected(settings, "proxied") as connection:
            log = EventLog(connection)
            await log.append(claim(1), expected=0)
            proxy.mute()
            async with asyncio.TaskGroup() as group:
                appending = group.create_task(log.append(claim(0), expected=0))
                await until_stored(running.event_log, 2)
                await running.event_log.append(claim(0, 2), expected=2)
                proxy.cut()
            assert appending.result() == 2


@pytest.mark.fault
async def test_kills_of_the_server_lose_and_double_nothing(running: RunningLog) -> None:
    log = running.event_log
    attempted: set[str] = set()
    acknowledged: dict[str, int] = {}
    is_over = asyncio.Event()

    async def append(index: int) -> None:
        last, number = 0, 0
        while not is_over.is_set():
            number += 1
            event = claim(index, number)
            attempted.add(event.id)
            last = await log.append(event, expected=last, bound_s=30)
            acknowledged[event.id] = last

    async with asyncio.TaskGroup() as group:
        for index in range(32):
            group.create_task(append(index))
        for _ in range(4):
            before = len(acknowledged)
            await until(lambda before=before: len(acknowledged) > before + 300)  # type: ignore[misc]
            await running.restart()
        before = len(acknowledged)
        await until(lambda: len(acknowledged) > before + 300)
        is_over.set()
    stored = Counter(await stored_ids(log))
    lost = acknowledged.keys() - stored.keys()
    invented = stored.keys() - attempted
    doubled = [event_id for event_id, count in stored.items() if count > 1]
    assert (lost, invented, doubled) == (set(), set(), [])
    sequences = {events.parse(s.payload).id: s.sequence for s in await everything(log)}
    assert {event_id: sequences[event_id] for event_id in acknowledged} == acknowledged


async def fill(log: EventLog) -> int:
    """Append until the store is full; return how many it took."""
    for index in range(200):
        try:
            await log.append(claim(index, padding=10_000), expected=0)
        except LogFullError as error:
            assert "MILLSTREAM_MAX_BYTES" in str(error)  # noqa: PT017
            return index
    raise AssertionError("the store took 2 MB, its size is 1 MB")


async def test_a_full_store_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    async with running_log(tmp_path, max_bytes=2**20) as running:
        log = running.event_log
        stored = await fill(log)
        kept = await everything(log)
        assert [item.sequence for item in kept] == list(range(1, stored + 1))
        assert stored > 50
        outcomes: dict[int, type[LogError] | None] = {}

        async def append(index: int, padding: int) -> None:
            try:
                await log.append(claim(index, padding=padding), expected=0)
            except LogError as error:
                outcomes[index] = type(error)
            else:
                outcomes[index] = None

        async with asyncio.TaskGroup() as group:
            for index in range(300, 320):
                group.create_task(append(index, 10_000))
            group.create_task(append(320, 0))  # a small one, such as a stop, still fits
        assert outcomes.pop(320) is None
        assert set(outcomes.values()) == {LogFullError}
        assert len(await everything(log)) == stored + 1


@pytest.mark.fault
async def test_without_a_server_an_append_ends_after_its_bound(running: RunningLog) -> None:
    await running.event_log.append(claim(0), expected=0)
    running.server.kill()
    await until(lambda: not running.connection.is_connected)
    with pytest.raises(LogUnavailableError):
        await running.event_log.append(claim(0, 2), expected=1, bound_s=0.5)
    with pytest.raises(LogUnavailableError):
        await running.event_log.head()
    await running.restart()
    event = claim(0, 3)
    sequence = await running.event_log.append(event, expected=1, bound_s=20)
    last = await running.event_log.last(event.subject)
    assert last is not None
    assert (last.sequence, events.parse(last.payload).id) == (sequence, event.id)
    # What was given up while nothing was connected is not sent afterwards.
    assert len(await everything(running.event_log)) == 2
