"""The routes' documents in the bucket: many nodes change them, and tell the time by the log."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from millstream.domain.limits import Limits, RouteState, Slot, lease
from millstream.errors import LogUnavailableError
from millstream.eventlog import limits as module
from millstream.eventlog.answers import subscribed
from millstream.eventlog.buckets import Bucket
from millstream.eventlog.connection import connected
from millstream.eventlog.limits import WATCH, SharedLimits, limits_of, route_key, watched
from millstream.eventlog.log import EventLog
from millstream.runtime.clock import boot_seconds
from millstream.testing.nats import RunningLog
from millstream.testing.site import route
from millstream.testing.waiting import BOUND_S, until
from millstream_schemas import subjects

pytestmark = pytest.mark.anyio

KEY = "route.0123456789abcdef01234567"
APART_S = 2.0
"""So far may clocks be apart that a slow server has told the time; those of machines are more."""


@pytest.fixture
async def nodes(running: RunningLog) -> AsyncIterator[list[SharedLimits]]:
    async with AsyncExitStack() as stack:
        made = []
        for number in range(4):
            connection = await stack.enter_async_context(connected(running.settings, "test"))
            made.append(SharedLimits(EventLog(connection).answers, f"n{number}"))
        yield made


async def test_many_nodes_that_change_a_document_at_once_lose_no_change(
    nodes: list[SharedLimits],
) -> None:
    async def add(node: SharedLimits) -> None:
        for _ in range(10):
            await node.change(
                KEY, lambda state, _: state.model_copy(update={"backoff_s": state.backoff_s + 1})
            )

    async with asyncio.TaskGroup() as tasks:
        for node in nodes:
            tasks.create_task(add(node))
    assert (await nodes[0].read(KEY)).backoff_s == 40


async def test_nodes_that_lease_at_once_never_get_the_same_due_time(
    nodes: list[SharedLimits],
) -> None:
    limits, slots = Limits(rpm=600), list[Slot]()

    async def take(node: SharedLimits, name: str) -> None:
        for _ in range(5):
            got: tuple[Slot, ...] = ()

            def step(state: RouteState, now: float) -> RouteState:
                nonlocal got
                state, leased = lease(state, name, now, limits, wanted=[0, 0])
                got = leased.slots
                return state

            await node.change(KEY, step)
            slots.extend(got)

    async with asyncio.TaskGroup() as tasks:
        for number, node in enumerate(nodes):
            tasks.create_task(take(node, f"n{number}"))
    due = sorted(slot.due_at for slot in slots)
    assert len(due) >= 4
    assert all(later - earlier > 0.1 for earlier, later in itertools.pairwise(due))


async def test_all_nodes_tell_the_same_time_and_it_is_the_servers(
    nodes: list[SharedLimits], running: RunningLog
) -> None:
    for node in nodes:
        await node.read(KEY)
    bucket = Bucket(running.event_log.answers, subjects.LIMITS_BUCKET)
    before = nodes[0].clock.now()
    await bucket.put("probe", b"x")
    entry = await bucket.get("probe")
    after = nodes[0].clock.now()
    assert entry is not None
    assert before - APART_S <= entry.stored_at.timestamp() <= after + APART_S
    times = [node.clock.now() for node in nodes]
    assert max(times) - min(times) < APART_S


async def test_a_wall_clock_that_jumps_changes_nothing(
    nodes: list[SharedLimits], monkeypatch: pytest.MonkeyPatch
) -> None:
    await nodes[0].read(KEY)
    before = nodes[0].clock.now()
    real: Callable[[], float] = time.time  # noqa: TID251  # the clock that jumps
    monkeypatch.setattr(time, "time", lambda: real() + 86_400)
    await nodes[0].read(KEY)
    assert 0 <= nodes[0].clock.now() - before < 3600


async def test_a_clock_that_was_frozen_is_measured_anew(
    nodes: list[SharedLimits], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that stood still counts too little; it is told within a minute of its own."""
    node = nodes[0]
    await node.read(KEY)
    right = node.clock.now()
    real = boot_seconds
    monkeypatch.setattr(module, "boot_seconds", lambda: real() - 3600)
    assert node.clock.now() < right - 3000
    monkeypatch.setattr(module, "MEASURE_S", -10_000.0)
    await node.read(KEY)
    assert abs(node.clock.now() - right) < 600


async def test_a_change_that_changes_nothing_stores_nothing(
    nodes: list[SharedLimits], running: RunningLog
) -> None:
    await nodes[0].change(KEY, lambda state, _: state)
    assert await Bucket(running.event_log.answers, subjects.LIMITS_BUCKET).get(KEY) is None


async def test_a_document_that_cannot_be_read_counts_as_a_new_one(
    nodes: list[SharedLimits], running: RunningLog
) -> None:
    bucket = Bucket(running.event_log.answers, subjects.LIMITS_BUCKET)
    for broken in (b"\xff", b'{"factor": 7}', b"[]"):
        await bucket.put(KEY, broken)
        assert await nodes[0].read(KEY) == RouteState()
    changed = await nodes[0].change(KEY, lambda state, _: state.model_copy(update={"cause": "x"}))
    assert await nodes[1].read(KEY) == changed


async def test_nodes_hear_of_each_others_changes_but_not_of_anything_else(
    nodes: list[SharedLimits], running: RunningLog
) -> None:
    heard: list[tuple[str, RouteState]] = []
    listen = watched(lambda key, state: heard.append((key, state)))
    async with subscribed(running.connection, WATCH, listen):
        await running.connection.flush()
        await Bucket(running.event_log.answers, subjects.LIMITS_BUCKET).put(KEY, b"none")
        changed = await nodes[0].change(
            KEY, lambda state, _: state.model_copy(update={"cause": "heard"})
        )
        await until(lambda: bool(heard), what="the change is heard of")
    assert heard == [(KEY, changed)]


async def test_without_a_server_nobody_is_told_that_a_change_was_stored(
    nodes: list[SharedLimits], running: RunningLog
) -> None:
    await nodes[0].read(KEY)
    running.server.kill()
    with pytest.raises(LogUnavailableError):
        await nodes[0].change(KEY, lambda state, _: state.model_copy(update={"cause": "lost"}))
    await running.server.wait()
    await running.server.start()
    async with asyncio.timeout(BOUND_S):
        while True:
            try:
                state = await nodes[0].read(KEY)
            except LogUnavailableError:
                continue
            break
    assert state.cause == ""


def test_routes_share_limits_when_model_place_and_key_are_the_same() -> None:
    first = route("http://10.0.0.1/v1", api_key_env="A", rpm=600, tpm=9, max_concurrency=3)
    key = route_key(first, first.api_base)
    assert key == route_key(first.model_copy(update={"stall_s": 1.0}), first.api_base)
    others = [
        route_key(first, "http://10.0.0.2/v1"),
        route_key(first, first.api_base, "another machine"),
        route_key(first.model_copy(update={"api_key_env": "B"}), first.api_base),
        route_key(first.model_copy(update={"litellm_model": "openai/other"}), first.api_base),
    ]
    assert len({key, *others}) == 5
    assert limits_of(first) == Limits(600, 9, 3)
