"""The stop fence: ends a batch without any worker's help, once, and with right counts."""

import asyncio
import random

import pytest

from millstream.domain import slice as slices
from millstream.domain.batch_state import BatchState
from millstream.domain.decide import Stamp
from millstream.errors import ConflictError
from millstream.eventlog import stop
from millstream.eventlog.aggregate import append_decision, execute, load_batch
from millstream.eventlog.log import EventLog
from millstream.eventlog.stop import run_stop_fence
from millstream.eventlog.stored import decode
from millstream.eventlog.work import WorkQueue
from millstream.runtime.clock import new_id, utc_now
from millstream.testing.examples import example_cell, example_spec
from millstream.testing.nats import ACTOR, BATCH_ID, RunningLog, everything, folded
from millstream.testing.waiting import BOUND_S
from millstream_schemas import subjects
from millstream_schemas.commands import StopBatch
from millstream_schemas.control import (
    BatchFailed,
    BatchSpec,
    BatchStarted,
    BatchStopped,
    BatchStopRequested,
)
from millstream_schemas.envelope import BatchEvent, Counts
from millstream_schemas.errors import ErrorInfo
from millstream_schemas.slices import SampleGenerated, SliceClaimed, SliceReleased, SliceState

pytestmark = pytest.mark.anyio

ENDS = (BatchStopped, BatchFailed)


def stamp() -> Stamp:
    return Stamp(new_id, utc_now(), ACTOR, "test", causation_id="test")


async def start(log: EventLog, target: int, slice_size: int = 8) -> BatchSpec:
    spec = example_spec(target, slice_size=slice_size)
    event = BatchStarted(**stamp().control(BATCH_ID), spec=spec, dataset_id=BATCH_ID)
    await log.append(event, expected=0)
    return spec


async def claim_slice(log: EventLog, index: int, node: str = "node-1") -> tuple[int, SliceState]:
    last = await log.last(subjects.slice_(BATCH_ID, index))
    recorded = decode(last) if last else None
    before = recorded.event.after if recorded else SliceState()  # type: ignore[attr-defined]
    after = slices.claimed(before, node)
    envelope = stamp().envelope(BATCH_ID, subjects.slice_(BATCH_ID, index))
    event = SliceClaimed(**envelope, slice=index, after=after)
    return await log.append(event, expected=last.sequence if last else 0), after


async def generate(
    log: EventLog, spec: BatchSpec, slot: int, held: tuple[int, SliceState]
) -> tuple[int, SliceState]:
    sequence, before = held
    index, offset = divmod(slot, spec.slice_size)
    after = slices.with_outcome(before, offset, "generated")
    event = SampleGenerated(
        **stamp().envelope(BATCH_ID, subjects.slice_(BATCH_ID, index)),
        slice=index,
        after=after,
        slot=slot,
        attempt=1,
        cell=example_cell(spec, slot),
        model=spec.model,
        provider="simulated",
        content={"question": "?", "answer": "!"},
        finish_reason="stop",
    )
    return await log.append(event, expected=sequence), after


async def request_stop(log: EventLog) -> None:
    done = await execute(log, BATCH_ID, StopBatch(), stamp)
    assert done.sequence is not None
    assert done.state.phase == "stopping"


async def sound(log: EventLog) -> tuple[BatchState, list[BatchEvent]]:
    """Return the whole fold and the batch's ends, after checking what always must hold."""
    events = [recorded.event for s in await everything(log) if (recorded := decode(s))]
    state = (await folded(log))[BATCH_ID]
    ends = [event for event in events if isinstance(event, ENDS)]
    assert (state.anomalies, state.late) == (0, 0)
    assert [event.counts for event in ends] == [state.counts]
    assert not any(isinstance(event, SampleGenerated) for event in after_end(events))
    return state, list(ends)


def after_end(events: list[BatchEvent]) -> list[BatchEvent]:
    end = next(number for number, event in enumerate(events) if isinstance(event, ENDS))
    return events[end + 1 :]


async def test_open_slices_are_closed_and_their_slots_abandoned(running: RunningLog) -> None:
    log = running.event_log
    spec = await start(log, 50)
    for index in (0, 3, 6):
        held = await claim_slice(log, index)
        for slot in list(spec.slots(index))[: index + 1]:
            held = await generate(log, spec, slot, held)
    await WorkQueue(log.answers).enqueue("default", "normal", BATCH_ID, range(7))
    await request_stop(log)
    state = await run_stop_fence(log, BATCH_ID, stamp)
    assert state.phase == "stopped"
    # Slices 0 and 3 lose 7 and 4 slots, the last one is full; four slices were never claimed.
    # Their holder says nothing, so its one call in flight of either may have been paid.
    assert state.counts == Counts(
        generated=1 + 4 + 2, abandoned=7 + 4, pending=32, unconfirmed_calls=2
    )
    whole, ends = await sound(log)
    assert whole.phase == "stopped"
    assert len(ends) == 1
    assert await WorkQueue(log.answers).queued(BATCH_ID) == set()


async def test_an_old_holder_cannot_write_after_the_end(running: RunningLog) -> None:
    log = running.event_log
    spec = await start(log, 20)
    held = await claim_slice(log, 0)
    held = await generate(log, spec, 0, held)
    await request_stop(log)
    await run_stop_fence(log, BATCH_ID, stamp)
    with pytest.raises(ConflictError):
        await generate(log, spec, 1, held)
    await sound(log)


async def test_two_thousand_open_slices_are_closed(running: RunningLog) -> None:
    log = running.event_log
    await start(log, 2500, slice_size=1)
    async with asyncio.TaskGroup() as group:
        for index in range(2000):
            group.create_task(claim_slice(log, index))
    await request_stop(log)
    state = await run_stop_fence(log, BATCH_ID, stamp)
    assert state.counts == Counts(abandoned=2000, pending=500, unconfirmed_calls=2000)
    await sound(log)


@pytest.mark.parametrize("claimed", [0, 5, 950])
async def test_several_fences_at_once_end_the_batch_once(running: RunningLog, claimed: int) -> None:
    log = running.event_log
    await start(log, 1000, slice_size=1)
    async with asyncio.TaskGroup() as group:
        for index in range(claimed):
            group.create_task(claim_slice(log, index))
    await request_stop(log)
    async with asyncio.TaskGroup() as group:
        fences = [group.create_task(run_stop_fence(log, BATCH_ID, stamp)) for _ in range(3)]
    assert [fence.result().phase for fence in fences] == ["stopped"] * 3
    state, ends = await sound(log)
    assert len(ends) == 1
    assert state.counts == Counts(
        abandoned=claimed, pending=1000 - claimed, unconfirmed_calls=claimed
    )


async def test_deaf_workers_are_fenced_out_in_mid_write(running: RunningLog) -> None:
    log = running.event_log
    spec = await start(log, 64 * 40, slice_size=64)
    generated: list[int] = []
    refused = 0
    rng = random.Random(3)

    async def work(index: int) -> None:
        nonlocal refused
        held = await claim_slice(log, index)
        for slot in spec.slots(index):
            await asyncio.sleep(rng.random() * 0.1)  # the model answers
            try:
                held = await generate(log, spec, slot, held)
            except ConflictError:
                refused += 1
                return
            generated.append(slot)

    async with asyncio.TaskGroup() as group:
        for index in range(40):
            group.create_task(work(index))
        async with asyncio.timeout(BOUND_S):
            while len(generated) < 200:
                await asyncio.sleep(0.01)
        await request_stop(log)
        state = await run_stop_fence(log, BATCH_ID, stamp)
        assert state.phase == "stopped"
    assert refused > 0  # else nobody raced
    whole, ends = await sound(log)
    assert len(ends) == 1
    assert whole.counts.generated == len(generated) == state.counts.generated
    assert whole.counts.generated + whole.counts.abandoned == spec.target
    # It did not just wait for the workers to end.
    assert whole.counts.abandoned > spec.target / 2, whole.counts


async def test_a_claim_that_races_the_end_changes_no_count(running: RunningLog) -> None:
    log = running.event_log
    await start(log, 300, slice_size=1)
    rng = random.Random(5)

    async def claim_late(index: int) -> None:
        await asyncio.sleep(rng.random() * 0.05)
        await claim_slice(log, index)

    await request_stop(log)
    async with asyncio.TaskGroup() as group:
        for index in range(300):
            group.create_task(claim_late(index))
        fence = group.create_task(run_stop_fence(log, BATCH_ID, stamp))
    state, ends = await sound(log)
    assert len(ends) == 1
    assert state.counts == fence.result().counts


async def test_a_batch_that_fails_waits_for_a_holder_that_lets_go_late_and_ends_as_failed(
    running: RunningLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its call was told already: one in flight that nobody knows of would be one too many."""
    monkeypatch.setattr(stop, "TELL_FAILED_S", BOUND_S)
    log = running.event_log
    await start(log, 10)
    sequence, held = await claim_slice(log, 0)
    error = ErrorInfo(category="auth", message="the key was refused")

    def choose(state: BatchState, made: Stamp) -> BatchStopRequested:
        return BatchStopRequested(**made.control(BATCH_ID), reason="no key", error=error)

    await append_decision(log, BATCH_ID, choose, stamp)
    envelope = stamp().envelope(BATCH_ID, subjects.slice_(BATCH_ID, 0))
    gone = SliceReleased(**envelope, slice=0, after=slices.released(held))
    async with asyncio.TaskGroup() as tasks:
        fence = tasks.create_task(run_stop_fence(log, BATCH_ID, stamp))
        await asyncio.sleep(3 * stop.TELL_S)  # longer than a person's stop would wait
        await log.append(gone, expected=sequence)
    state = fence.result()
    assert (state.phase, state.error, state.counts.unconfirmed_calls) == ("failed", error, 0)
    assert (await sound(log))[0].phase == "failed"


async def test_a_batch_that_is_not_stopping_is_left_alone(running: RunningLog) -> None:
    log = running.event_log
    assert (await run_stop_fence(log, BATCH_ID, stamp)).phase == "unknown"
    await start(log, 10)
    await claim_slice(log, 0)
    assert (await run_stop_fence(log, BATCH_ID, stamp)).phase == "active"
    assert len(await everything(log)) == 2


async def test_a_stop_needs_no_work_queue(running: RunningLog) -> None:
    log = running.event_log
    await start(log, 10)
    await claim_slice(log, 0)
    await log.answers.ask(f"$JS.API.STREAM.DELETE.{subjects.WORK}", b"")
    await request_stop(log)
    assert (await run_stop_fence(log, BATCH_ID, stamp)).phase == "stopped"


@pytest.mark.fault
async def test_a_kill_of_the_server_only_delays_the_end(running: RunningLog) -> None:
    log = running.event_log
    await start(log, 1000, slice_size=1)
    async with asyncio.TaskGroup() as group:
        for index in range(1000):
            group.create_task(claim_slice(log, index))
    await request_stop(log)
    async with asyncio.TaskGroup() as group:
        fence = group.create_task(run_stop_fence(log, BATCH_ID, stamp))
        await running.restart()
    assert fence.result().phase == "stopped"
    state, ends = await sound(log)
    assert len(ends) == 1
    assert (
        state.counts
        == (await load_batch(log, BATCH_ID)).counts
        == Counts(abandoned=1000, unconfirmed_calls=1000)
    )


async def test_commands_race_and_one_of_them_wins(running: RunningLog) -> None:
    log = running.event_log
    await start(log, 10)
    async with asyncio.TaskGroup() as group:
        stops = [group.create_task(execute(log, BATCH_ID, StopBatch(), stamp)) for _ in range(8)]
    assert sum(stop.result().sequence is not None for stop in stops) == 1
    assert all(stop.result().refusal is None for stop in stops)
    assert len(await everything(log)) == 2
    stale = await execute(log, BATCH_ID, StopBatch(), stamp, if_match=1)
    assert stale.refusal is not None
    assert stale.refusal.code == "stale"
