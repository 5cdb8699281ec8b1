"""The event log: appends behind a fence, alone, together and through faults."""

import asyncio
import base64
import json

import pytest

from millstream.errors import (
    ConflictError,
    LogError,
    LogUnavailableError,
)
from millstream.eventlog.log import EventLog
from millstream.testing.nats import (
    BATCH_ID,
    RunningLog,
    claim,
    everything,
)
from millstream.testing.waiting import BOUND_S
from millstream_schemas import events, subjects
from millstream_schemas.slices import SliceClaimed

pytestmark = pytest.mark.anyio


async def test_an_appended_event_is_read_back_as_it_was(running: RunningLog) -> None:
    event = claim(0)
    sequence = await running.event_log.append(event, expected=0)
    last = await running.event_log.last(event.subject)
    assert last is not None
    assert (last.sequence, last.subject) == (sequence, event.subject)
    assert events.parse(last.payload) == event
    assert await running.event_log.last(subjects.slice_(BATCH_ID, 1)) is None
    head = await running.event_log.head()
    assert (head.first, head.last, len(head.epoch)) == (1, 1, 8)


async def test_an_append_after_another_sequence_is_refused(running: RunningLog) -> None:
    log = running.event_log
    await log.append(claim(0, 1), expected=0)
    with pytest.raises(ConflictError, match="wrong last sequence"):
        await log.append(claim(0, 2), expected=0)
    with pytest.raises(ConflictError):
        await log.append(claim(0, 2), expected=7)
    assert len(await everything(log)) == 1


async def test_a_chain_is_stored_whole_or_not_at_all(running: RunningLog) -> None:
    log = running.event_log
    await log.append(claim(1), expected=0)
    chain = [claim(0, number) for number in range(1, 6)]
    assert await log.append_chain(chain, expected=0) == 6
    with pytest.raises(ConflictError):
        await log.append_chain([claim(0, 9), claim(0, 10)], expected=3)
    after = await log.after(chain[0].subject, 3)
    assert after is not None
    assert after.sequence == 4
    assert [stored.sequence for stored in await everything(log)] == [1, 2, 3, 4, 5, 6]


async def test_events_of_several_subjects_are_stored_together_or_not_at_all(
    running: RunningLog,
) -> None:
    log = running.event_log
    assert await log.append_together([(claim(index), 0) for index in range(3)]) == 3
    with pytest.raises(ConflictError):
        await log.append_together([(claim(3), 0), (claim(0, 2), 0)])
    assert len(await everything(log)) == 3


async def test_concurrent_appends_share_writes_and_all_get_their_sequence(
    running: RunningLog,
) -> None:
    log = running.event_log
    tasks, rounds = 50, 10

    async def append(index: int) -> list[tuple[int, str]]:
        last = 0
        done = []
        for number in range(rounds):
            event = claim(index, number)
            last = await log.append(event, expected=last)
            done.append((last, event.id))
        return done

    async with asyncio.TaskGroup() as group:
        running_tasks = [group.create_task(append(index)) for index in range(tasks)]
    acknowledged = sorted(pair for task in running_tasks for pair in task.result())
    stored = [(item.sequence, events.parse(item.payload).id) for item in await everything(log)]
    assert acknowledged == stored
    raw = await log.answers.ask("$JS.API.STREAM.MSG.GET.MILLSTREAM_EVENTS", b'{"seq":400}')
    assert b"hdrs" in raw.data
    # Everything that is not in an atomic batch was written alone: a small part at most.
    alone = await count_written_alone(log, len(stored))
    assert alone < len(stored) / 5


async def count_written_alone(log: EventLog, last: int) -> int:
    alone = 0
    for sequence in range(1, last + 1):
        request = json.dumps({"seq": sequence}).encode()
        answer = await log.answers.ask("$JS.API.STREAM.MSG.GET.MILLSTREAM_EVENTS", request)
        headers = json.loads(answer.data)["message"].get("hdrs", "")
        alone += b"Nats-Batch-Id" not in base64.b64decode(headers)
    return alone


async def test_a_conflict_among_concurrent_appends_fails_alone(running: RunningLog) -> None:
    log = running.event_log
    await log.append(claim(13), expected=0)
    outcomes: dict[int, int | LogError] = {}

    async def append(index: int) -> None:
        try:
            outcomes[index] = await log.append(claim(index, 2), expected=0)
        except LogError as error:
            outcomes[index] = error

    async with asyncio.TaskGroup() as group:
        for index in range(40):
            group.create_task(append(index))
    assert isinstance(outcomes.pop(13), ConflictError)
    assert sorted(outcomes.values()) == list(range(2, 41))  # type: ignore[type-var]


async def test_chains_and_single_events_of_many_subjects_mix(running: RunningLog) -> None:
    log = running.event_log
    chains = {index: [claim(index, n) for n in range(1 + index % 7)] for index in range(60)}
    async with asyncio.TaskGroup() as group:
        tasks = {
            index: group.create_task(log.append_chain(chain, expected=0))
            for index, chain in chains.items()
        }
    for index, stored in (await log.tails(BATCH_ID)).items():
        assert stored.sequence == tasks[index].result()
        assert events.parse(stored.payload).id == chains[index][-1].id
    assert len(await everything(log)) == sum(map(len, chains.values()))


async def test_an_event_above_the_servers_limit_is_refused_at_once(running: RunningLog) -> None:
    with pytest.raises(LogError, match="send less") as caught:
        await running.event_log.append(claim(0, padding=9_000_000), expected=0)
    assert not isinstance(caught.value, LogUnavailableError)
    await running.event_log.append(claim(0), expected=0)


@pytest.mark.parametrize("turns", [1, 2, 3, 5, 8])
async def test_cancelling_one_append_costs_no_other_one(running: RunningLog, turns: int) -> None:
    log = running.event_log
    sequences: dict[int, int] = {}

    async def append(index: int) -> None:
        sequences[index] = await log.append(claim(index), expected=0)

    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        tasks = [group.create_task(append(index)) for index in range(30)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for index in (0, 1, 7, 29):
            tasks[index].cancel()
    stored = {item.subject: item.sequence for item in await everything(log)}
    assert len(sequences) >= 26
    assert {subjects.slice_(BATCH_ID, index): s for index, s in sequences.items()} == {
        subject: s for subject, s in stored.items() if int(subject.rpartition(".")[2]) in sequences
    }
    assert len(stored) == len(await everything(log))
    # And the publisher still works.
    await log.append(claim(99), expected=0)


async def test_an_append_cancelled_before_its_write_is_not_stored(running: RunningLog) -> None:
    log = running.event_log
    async with asyncio.TaskGroup() as group:
        writer = group.create_task(log.append(claim(0), expected=0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting = group.create_task(log.append(claim(1), expected=0))
        await asyncio.sleep(0)
        waiting.cancel()
    assert writer.result() == 1
    await log.append(claim(2), expected=0)
    assert [s.subject for s in await everything(log)] == [
        subjects.slice_(BATCH_ID, 0),
        subjects.slice_(BATCH_ID, 2),
    ]


async def test_a_turn_to_write_that_comes_with_a_cancellation_is_passed_on(
    running: RunningLog,
) -> None:
    log = running.event_log

    async def first() -> None:
        await log.append(claim(0), expected=0)
        cancelled.cancel()  # it was just told that it is its turn

    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        group.create_task(first())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        cancelled = group.create_task(log.append(claim(1), expected=0))
        waiting = [group.create_task(log.append(claim(n), expected=0)) for n in (2, 3)]
    assert cancelled.cancelled()
    assert [task.result() for task in waiting] == [2, 3]


async def test_history_ends_at_the_given_sequence_and_keeps_to_its_filter(
    running: RunningLog,
) -> None:
    log = running.event_log
    chain: list[SliceClaimed] = [claim(0, number) for number in range(900)]
    last = await log.append_chain(chain, expected=0)
    await log.append_chain([claim(1, number) for number in range(900)], expected=0)
    last = await log.append_chain([claim(0, number) for number in range(900)], expected=last)
    pages = [page async for page in log.history(chain[0].subject, after=5, until=2000)]
    sequences = [stored.sequence for page in pages for stored in page]
    assert sequences == [*range(6, 901), *range(1801, 2001)]
    assert [page async for page in log.history(subjects.note(BATCH_ID))] == []
    assert [page async for page in log.history(subjects.ALL_EVENTS, after=last)] == []


async def test_the_tails_of_more_slices_than_one_request_may_name(running: RunningLog) -> None:
    log = running.event_log
    async with asyncio.TaskGroup() as group:
        for index in range(2300):
            group.create_task(log.append(claim(index, padding=5_000), expected=0))
    tails = await log.tails(BATCH_ID)
    assert sorted(tails) == list(range(2300))
    assert all(events.parse(stored.payload).subject == stored.subject for stored in tails.values())
    assert await log.tails("batch_1767225600_00000009") == {}
