"""The one writer of a slice on a node: chains, the fence, outages and cancellation."""

import asyncio

import pytest

from millstream.domain.decide import Stamp
from millstream.eventlog.connection import connected
from millstream.eventlog.fullness import Fullness
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import decode
from millstream.runtime.clock import new_id
from millstream.runtime.settings import Settings
from millstream.testing.examples import example_cell, example_spec
from millstream.testing.nats import ACTOR, BATCH_ID, TIME, RunningLog, SilentProxy
from millstream.testing.waiting import BOUND_S, until
from millstream_generator import steps, writer
from millstream_generator.completion import Completion
from millstream_generator.measures import Tally
from millstream_generator.steps import Attempt, Step
from millstream_generator.writer import LeaseLostError, SliceWriter
from millstream_schemas import subjects
from millstream_schemas.slices import SampleGenerated, SliceEvent, Usage

pytestmark = pytest.mark.anyio

SPEC = example_spec(64, slice_size=64)
USAGE = Usage(tokens_in=1, tokens_out=2, cost_nano_usd=3)


def stamp() -> Stamp:
    return Stamp(new_id, TIME, ACTOR, "test", causation_id="test")


def a_writer(event_log: EventLog) -> SliceWriter:
    return SliceWriter(event_log, BATCH_ID, 0, stamp, Tally(), Fullness(event_log))


async def claimed(event_log: EventLog, node: str = "a") -> SliceWriter:
    """Return a writer that has just claimed the slice."""
    made = a_writer(event_log)
    await made.load()
    await made.record(steps.claimed(node))
    return made


def outcome(slot: int) -> Step:
    attempt = Attempt(slot, slot, 1, example_cell(SPEC, slot), SPEC.routes[0], "hash")
    return steps.generated(attempt, Completion("", "stop", USAGE, None), {"question": str(slot)})


async def events(running: RunningLog) -> list[SliceEvent]:
    """Return the slice's events in order."""
    subject = subjects.slice_(BATCH_ID, 0)
    pages = running.event_log.history(subject)
    found = [decode(stored) async for page in pages for stored in page]
    return [item.event for item in found if item and isinstance(item.event, SliceEvent)]


async def slots(running: RunningLog) -> list[int]:
    """Return the slots of all outcomes in order."""
    return [event.slot for event in await events(running) if isinstance(event, SampleGenerated)]


async def test_a_writer_goes_on_where_the_tail_is(running: RunningLog) -> None:
    first = await claimed(running.event_log)
    await first.record(outcome(0))
    second = a_writer(running.event_log)
    await second.load()
    assert (second.state, second.sequence) == (first.state, first.sequence)
    assert second.state.generated == "1"


async def test_concurrent_outcomes_go_out_in_chains_and_all_are_stored_once(
    running: RunningLog,
) -> None:
    slice_writer = await claimed(running.event_log)
    chains: list[int] = []
    append = running.event_log.append_chain

    async def counted(chain: list[SliceEvent], *, expected: int) -> int:
        chains.append(len(chain))
        return await append(chain, expected=expected)

    running.event_log.append_chain = counted  # type: ignore[method-assign,assignment]
    async with asyncio.TaskGroup() as tasks:
        for slot in range(64):
            tasks.create_task(slice_writer.record(outcome(slot)))
    assert sorted(await slots(running)) == list(range(64))
    assert slice_writer.state.generated == "f" * 16
    assert slice_writer.state.cost_nano_usd == 64 * 3
    assert len(chains) < 10
    tail = (await events(running))[-1]
    assert (tail.after, tail.id) == (slice_writer.state, slice_writer.last_id)


async def test_more_waiting_outcomes_than_one_chain_holds_are_durable_when_told(
    running: RunningLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHAIN_MOST", 5)
    slice_writer = await claimed(running.event_log)
    late: list[int] = []

    async def record(slot: int) -> None:
        await slice_writer.record(outcome(slot))
        if not slice_writer.state.generated or slot not in await slots(running):
            late.append(slot)

    async with asyncio.TaskGroup() as tasks:
        for slot in range(40):
            tasks.create_task(record(slot))
    assert late == []
    assert sorted(await slots(running)) == list(range(40))


async def test_the_steps_of_one_record_are_stored_together(running: RunningLog) -> None:
    slice_writer = await claimed(running.event_log)
    await slice_writer.record(outcome(3), outcome(4))
    assert await slots(running) == [3, 4]


async def test_a_rivals_claim_ends_the_lease_for_all_who_wait(running: RunningLog) -> None:
    old = await claimed(running.event_log, "a")
    await old.record(outcome(0))
    new = await claimed(running.event_log, "b")
    results = await asyncio.gather(
        *(old.record(outcome(slot)) for slot in (1, 2, 3)), return_exceptions=True
    )
    assert all(isinstance(result, LeaseLostError) for result in results)
    assert old.is_lost
    with pytest.raises(LeaseLostError):
        await old.record(outcome(4))
    await new.record(outcome(1))
    assert await slots(running) == [0, 1]


async def test_a_writer_that_lost_may_load_and_claim_again(running: RunningLog) -> None:
    old = await claimed(running.event_log, "a")
    await claimed(running.event_log, "b")
    with pytest.raises(LeaseLostError):
        await old.record(outcome(1))
    await old.load()
    await old.record(steps.claimed("a", rescue_of="b"))
    await old.record(outcome(2))
    assert (old.state.epoch, await slots(running)) == (3, [2])


async def test_only_a_claim_or_a_closing_says_that_the_slice_is_lost(running: RunningLog) -> None:
    """An append of one's own that is under way must not be taken for a rival's."""
    first = await claimed(running.event_log)
    await first.confirm()
    same = a_writer(running.event_log)
    await same.load()
    await first.record(outcome(0))
    await same.confirm()
    await first.record(steps.closed(64))
    with pytest.raises(LeaseLostError):
        await same.confirm()
    await claimed(running.event_log, "b")
    with pytest.raises(LeaseLostError):
        await first.confirm()


async def test_answers_wait_while_nats_is_down_and_land_once(running: RunningLog) -> None:
    slice_writer = await claimed(running.event_log)
    async with asyncio.TaskGroup() as tasks:
        before = [tasks.create_task(slice_writer.record(outcome(slot))) for slot in range(8)]
        await asyncio.sleep(0)
        running.server.kill()
        await running.server.wait()
        await until(lambda: not running.connection.is_connected)
        after = [tasks.create_task(slice_writer.record(outcome(slot))) for slot in range(8, 16)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in after)
        await running.server.start()
        await asyncio.wait([*before, *after], timeout=30)
    assert sorted(await slots(running)) == list(range(16))
    assert slice_writer.state.generated == "ffff"


async def test_an_append_whose_answer_is_lost_is_found_and_not_repeated(
    running: RunningLog,
) -> None:
    port = int(running.server.url.rpartition(":")[2])
    async with SilentProxy(port) as proxy:
        settings = Settings(nats_url=proxy.url, data_dir=running.settings.data_dir, node="far")
        async with connected(settings, "test") as connection:
            slice_writer = await claimed(EventLog(connection))
            proxy.mute()
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(slice_writer.record(outcome(0), outcome(1)))
                await _stored(running, 2)
                assert not task.done()
                proxy.cut()
            await slice_writer.record(outcome(2))
    assert await slots(running) == [0, 1, 2]


async def _stored(running: RunningLog, count: int) -> None:
    async with asyncio.timeout(BOUND_S):
        while len(await slots(running)) < count:
            await asyncio.sleep(0.01)


async def test_a_cancelled_append_leaves_a_writer_that_can_go_on(running: RunningLog) -> None:
    """Whether the cancelled events were stored is not known; nothing is doubled either way."""
    slice_writer = await claimed(running.event_log)
    for round_ in range(10):
        task = asyncio.get_running_loop().create_task(slice_writer.record(outcome(2 * round_)))
        for _ in range(round_ + 1):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await slice_writer.record(outcome(2 * round_ + 1))
    found = await slots(running)
    assert len(found) == len(set(found))
    assert set(range(1, 20, 2)) <= set(found)
    assert not slice_writer.is_lost
    assert (await events(running))[-1].after == slice_writer.state


async def test_a_caller_cancelled_while_it_waits_disturbs_nobody(running: RunningLog) -> None:
    slice_writer = await claimed(running.event_log)
    running.server.kill()
    await running.server.wait()
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(slice_writer.record(outcome(slot))) for slot in range(4)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[2].cancel()
        await running.server.start()
    assert {1, 3} <= set(await slots(running)) <= {0, 1, 2, 3}
    assert (await events(running))[-1].after == slice_writer.state
