"""The fold of live batches from the tails is the fold of the whole log."""

import asyncio
import contextlib
import itertools
import random
from dataclasses import replace

import pytest

from millstream.domain.batch_state import BatchState
from millstream.eventlog.aggregate import load_batch
from millstream.eventlog.follow import follow
from millstream.eventlog.live import LiveBatches
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import RunningLog, folded, store
from millstream.testing.tape import Entry, Tape
from millstream.testing.waiting import BOUND_S
from millstream_schemas import subjects
from millstream_schemas.notes import StuckFinding

pytestmark = pytest.mark.anyio


def script(tape: Tape, number: int, target: int = 30) -> Script:
    spec = example_spec(target, slice_size=8)
    return Script(tape, batch_id=f"batch_1767225600_{number:08x}", spec=spec)


def mixed_tape() -> Tape:
    """Write seven batches, one for each thing that can become of one, all interleaved."""
    tape = Tape()
    script(tape, 1).start()
    script(tape, 2).run(failed=[3, 17])
    running = script(tape, 3)
    running.start()
    paused = script(tape, 4)
    paused.start()
    stopped = script(tape, 5)
    stopped.start()
    stopping = script(tape, 6)
    stopping.start()
    for one in (running, paused, stopped, stopping):
        one.claim(0)
        one.generate(0)
        one.claim(2)
    rng = random.Random(7)
    for slot in rng.sample(range(1, 8), 7):
        one = rng.choice([running, paused, stopped, stopping])
        one.reject(slot)
        one.fail_attempt(slot, "rate_limit")
        one.fail_attempt(slot)
        one.fail(slot)
    paused.throttle(30)
    paused.pause()
    stopped.stop("enough")
    stopping.generate(16)
    stopping.request_stop()
    stopping.close(2)
    running.detect_stuck(finding())
    return tape


def finding() -> StuckFinding:
    return StuckFinding(
        rule="no_progress", cause="quiet", since=Tape().now, idle_s=40, threshold_s=30
    )


def comparable(state: BatchState) -> BatchState:
    """Leave out what tails can't tell: what came last of all slices."""
    return replace(state, last_error=None, last_progress_at=None)


async def assert_same(running: RunningLog, live: LiveBatches) -> None:
    whole = await folded(running.event_log)
    expected = {batch_id: state for batch_id, state in whole.items() if state.is_live}
    assert live.batches.keys() == expected.keys()
    for batch_id, state in expected.items():
        assert comparable(live.batches[batch_id]) == comparable(state)
        assert state.anomalies == 0


async def test_a_cold_start_from_tails_equals_the_fold_of_the_log(running: RunningLog) -> None:
    await store(running.event_log, mixed_tape().entries)
    live = await LiveBatches.load(running.event_log)
    assert live.sequence == len(mixed_tape().entries)
    assert sorted(state.state for state in live.batches.values()) == [
        "paused",
        "queued",
        "running",
        "stopping",
    ]
    await assert_same(running, live)


async def test_one_batch_from_its_tails_equals_the_fold_of_the_log(running: RunningLog) -> None:
    await store(running.event_log, mixed_tape().entries)
    for batch_id, state in (await folded(running.event_log)).items():
        loaded = await load_batch(running.event_log, batch_id)
        assert comparable(loaded) == comparable(state)
    unknown = await load_batch(running.event_log, "batch_1767225600_0000ffff")
    assert unknown.phase == "unknown"


def busy_entries() -> list[Entry]:
    """Four batches that go on all the time; one ends in the middle, one starts there."""
    tape = Tape()
    scripts = [script(tape, number, target=64) for number in range(1, 5)]
    for one in scripts[:3]:
        one.start()
    for slot in range(64):
        for one in scripts if slot > 30 else scripts[:3]:
            if slot == 31 and one is scripts[3]:
                one.start()
            if one.state.is_final:
                continue
            if one is scripts[0] and slot == 40:
                one.stop()
                continue
            if one.place(slot)[0] not in one.state.slices:
                one.claim(one.place(slot)[0])
            one.generate(slot)
    return tape.entries


async def test_load_and_feed_join_without_gap_or_repeat(running: RunningLog) -> None:
    log = running.event_log
    entries = busy_entries()
    loads = []

    async def load_and_follow(start: int) -> LiveBatches:
        async with asyncio.timeout(BOUND_S):
            while (await log.head()).last < start:
                await asyncio.sleep(0.005)
            live = await LiveBatches.load(log)
            loads.append(live.sequence)
            async with contextlib.aclosing(follow(log, after=live.sequence)) as feed:
                async for page in feed:
                    for stored in page:
                        assert stored.sequence == live.sequence + 1
                        live.apply(stored)
                    if live.sequence == len(entries):
                        return live
        raise AssertionError("a feed never ends")

    async with asyncio.TaskGroup() as group:
        group.create_task(store(log, entries))
        starts = [1, 40, 90, 130, 170]
        followers = [group.create_task(load_and_follow(start)) for start in starts]
    assert min(loads) < len(entries) / 2  # else nothing was joined
    for follower in followers:
        await assert_same(running, follower.result())


async def test_a_batch_that_ends_is_returned_once_more_and_dropped(running: RunningLog) -> None:
    tape = Tape()
    one = script(tape, 1, target=2)
    one.run()
    live = LiveBatches({}, 0)
    states = [live.apply(entry.stored) for entry in tape.entries]
    assert [state.phase for state in states if state] == ["active"] * 4 + ["completed"]
    assert live.batches == {}
    assert live.sequence == len(tape.entries)
    assert all(live.apply(entry.stored) is None for entry in tape.entries[1:])


async def test_what_no_reader_knows_is_passed_over(running: RunningLog) -> None:
    log = running.event_log
    await store(log, itertools.islice(mixed_tape().entries, 20))
    batch_id = "batch_1767225600_00000001"
    for subject, payload in (
        ("mill.events.system", b"{}"),
        ("mill.events.system.topic", b"nothing"),
        (subjects.control(batch_id), b'{"type": "batch.sold.v9"}'),
        (subjects.control(batch_id), b"[]"),
        (subjects.control("batch_1767225600_0000aaaa"), b"{"),
        (subjects.slice_(batch_id, 0), b'{"type": "slice.claimed.v1"}'),
        (subjects.note(batch_id), b"\xff"),
    ):
        await log.answers.ask(subject, payload)
    live = await LiveBatches.load(log)
    await assert_same(running, live)
    assert (await load_batch(log, batch_id)).phase == "active"
