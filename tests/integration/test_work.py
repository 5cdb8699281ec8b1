"""The work queue: one message per slice, leased to one node at a time, and lost without harm."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from millstream.errors import LogError, LogUnavailableError
from millstream.eventlog import work as work_module
from millstream.eventlog.topology import ensure_topology
from millstream.eventlog.work import ONE_CALL, Lease, WorkQueue, WorkSize
from millstream.runtime.clock import boot_seconds
from millstream.testing.nats import BATCH_ID, RunningLog, running_log
from millstream.testing.waiting import BOUND_S
from millstream_schemas import subjects

pytestmark = pytest.mark.anyio

OTHER_ID = "batch_1767225600_00000002"


@pytest.fixture
def queue(running: RunningLog) -> WorkQueue:
    return WorkQueue(running.event_log.answers)


async def leased(queue: WorkQueue, pool: str = "default") -> Lease:
    for _ in range(3):  # the server may end a wait just as a lease runs out
        lease = await queue.lease(pool, "normal")
        if lease is not None:
            return lease
    raise AssertionError("no slice came")


async def consumer(running: RunningLog) -> dict[str, Any]:
    name = subjects.work_consumer("default", "normal")
    subject = f"$JS.API.CONSUMER.INFO.{subjects.WORK}.{name}"
    found: dict[str, Any] = json.loads((await running.event_log.answers.ask(subject, b"")).data)
    return found


async def test_queueing_a_slice_twice_is_queueing_it_once(queue: WorkQueue) -> None:
    assert await queue.enqueue("default", "normal", BATCH_ID, range(5)) == 5
    assert await queue.enqueue("default", "normal", BATCH_ID, range(7)) == 2
    assert await queue.enqueue("default", "normal", OTHER_ID, [0]) == 1
    assert await queue.queued(BATCH_ID) == set(range(7))
    lease = await leased(queue)
    assert await queue.enqueue("default", "normal", BATCH_ID, [lease.work.slice_index]) == 0


async def test_a_lease_tells_how_large_its_slice_is(queue: WorkQueue) -> None:
    await queue.enqueue("default", "normal", BATCH_ID, [0], WorkSize(calls=7, slots=19))
    assert (await leased(queue)).size == WorkSize(calls=7, slots=19)
    await queue.enqueue("default", "normal", BATCH_ID, [1])
    assert (await leased(queue)).size == ONE_CALL


async def test_a_leased_slice_goes_to_no_other_and_is_gone_when_done(queue: WorkQueue) -> None:
    await queue.enqueue("default", "normal", BATCH_ID, range(2))
    first, second = await leased(queue), await leased(queue)
    assert {first.work.slice_index, second.work.slice_index} == {0, 1}
    assert (first.work.batch_id, first.work.pool, first.deliveries) == (BATCH_ID, "default", 1)
    await first.done()
    assert await queue.queued(BATCH_ID) == {second.work.slice_index}
    assert await queue.enqueue("default", "normal", BATCH_ID, [first.work.slice_index]) == 1


async def test_nothing_queued_gives_none(queue: WorkQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_module, "PULL_S", 0.2)
    await queue.enqueue("default", "high", BATCH_ID, [0])
    assert await queue.lease("default", "normal") is None
    assert await queue.lease("default", "high") is not None


async def test_a_waiting_node_gets_what_is_queued_later(queue: WorkQueue) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(leased(queue))
        await queue.enqueue("default", "normal", BATCH_ID, [3])
    assert waiting.result().work.slice_index == 3


async def test_a_slice_given_back_goes_to_the_next_node(queue: WorkQueue) -> None:
    await queue.enqueue("default", "normal", BATCH_ID, [0])
    await (await leased(queue)).give_back()
    again = await leased(queue)
    assert again.deliveries == 2
    given_at = boot_seconds()
    await again.give_back(0.5)
    assert (await leased(queue)).deliveries == 3
    assert boot_seconds() - given_at >= 0.5


async def test_a_lease_that_ran_out_is_handed_to_another_node(tmp_path: Path) -> None:
    async with running_log(tmp_path, lease_s=1) as running:
        queue = WorkQueue(running.event_log.answers)
        await queue.enqueue("default", "normal", BATCH_ID, [0])
        lost = await leased(queue)
        rescued = await leased(queue)
        assert (rescued.work, rescued.deliveries) == (lost.work, 2)
        assert not lost.is_held(1)
        assert rescued.is_held(1)


async def test_beats_keep_a_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_log(tmp_path, lease_s=2) as running:
        monkeypatch.setattr(work_module, "PULL_S", 3.5)
        queue = WorkQueue(running.event_log.answers)
        await queue.enqueue("default", "normal", BATCH_ID, [0])
        lease = await leased(queue)
        async with asyncio.TaskGroup() as group:
            other = group.create_task(queue.lease("default", "normal"))
            while not other.done():
                await lease.beat()
                assert lease.is_held(2)
                await asyncio.wait([other], timeout=0.2)
        assert other.result() is None


async def test_a_wait_given_up_takes_no_slice_with_it(
    running: RunningLog, queue: WorkQueue
) -> None:
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(queue.lease("default", "normal")) for _ in range(3)]
        async with asyncio.timeout(BOUND_S):
            while (await consumer(running))["num_waiting"] < 3:
                await asyncio.sleep(0.01)
        for wait in waits:
            wait.cancel()
    await queue.enqueue("default", "normal", BATCH_ID, range(3))
    assert {(await leased(queue)).work.slice_index for _ in range(3)} == {0, 1, 2}


async def test_purging_drops_the_work_of_one_batch(queue: WorkQueue) -> None:
    await queue.enqueue("default", "normal", BATCH_ID, range(10))
    await queue.enqueue("default", "low", BATCH_ID, range(10, 20))
    await queue.enqueue("default", "normal", OTHER_ID, [4])
    leases = [await leased(queue) for _ in range(5)]
    await queue.purge(BATCH_ID)
    assert await queue.queued(BATCH_ID) == set()
    assert await queue.queued(OTHER_ID) == {4}
    await leases[0].done()  # its message is gone; that is no error
    assert (await leased(queue)).work.batch_id == OTHER_ID


async def test_a_deleted_queue_is_made_anew_and_filled_again(
    running: RunningLog, queue: WorkQueue
) -> None:
    await queue.enqueue("default", "normal", BATCH_ID, range(4))
    lease = await leased(queue)
    await running.event_log.answers.ask(f"$JS.API.STREAM.DELETE.{subjects.WORK}", b"")
    for refused in (
        queue.enqueue("default", "normal", BATCH_ID, range(4)),
        queue.lease("default", "normal"),
        queue.queued(BATCH_ID),
        lease.beat(),
        lease.done(),
    ):
        with pytest.raises(LogUnavailableError):
            await refused
    await ensure_topology(running.connection, running.settings)
    assert await queue.enqueue("default", "normal", BATCH_ID, range(4)) == 4
    assert (await leased(queue)).deliveries == 1


async def test_work_nobody_can_name_is_refused_with_a_plain_error(queue: WorkQueue) -> None:
    with pytest.raises(LogError):
        await queue.enqueue("no such pool", "normal", BATCH_ID, [0])


@pytest.mark.fault
async def test_queued_slices_survive_a_kill_of_the_server(
    running: RunningLog, queue: WorkQueue
) -> None:
    await queue.enqueue("default", "normal", BATCH_ID, range(3))
    await running.restart()
    assert await queue.queued(BATCH_ID) == {0, 1, 2}
    assert (await leased(queue)).work.batch_id == BATCH_ID
