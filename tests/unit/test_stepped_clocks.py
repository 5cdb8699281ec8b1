"""The clock of the log's server is put forward or back under nodes that share a route.

Real gates, documents and clocks in virtual time; only the bucket is made up.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from millstream.domain.limits import Limits, RouteState, lease
from millstream.errors import ConflictError
from millstream.eventlog import limits, sightings
from millstream.eventlog.buckets import Entry
from millstream.eventlog.limits import SharedLimits
from millstream.testing.site import route
from millstream.testing.virtual_time import run_virtual
from millstream_generator import condition, gate, hints, leases, turns

AWAY_S = 0.003
MODULES = (limits, sightings, condition, gate, hints, leases, turns)


class Bucket:
    """A bucket whose server tells the time wrong by ``ahead_s``."""

    def __init__(self) -> None:
        self.ahead_s = 1e9
        self.writes = 0
        self._entries: dict[str, Entry] = {}
        self.heard_by: list[Callable[[RouteState], None]] = []

    async def get(self, key: str) -> Entry | None:
        await asyncio.sleep(AWAY_S)
        return self._entries.get(key)

    async def put(self, key: str, value: bytes, *, expected: int | None = None) -> int:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(AWAY_S / 2)
        known = self._entries.get(key)
        if expected not in {None, known.revision if known else 0}:
            raise ConflictError(key)
        self.writes += 1
        stamp = datetime.fromtimestamp(loop.time() + self.ahead_s, UTC)
        self._entries[key] = Entry(value, self.writes, stamp)
        if value:
            for hear in self.heard_by:
                loop.call_later(AWAY_S / 2, hear, RouteState.model_validate_json(value))
        await asyncio.sleep(AWAY_S / 2)
        return self.writes


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    made = Bucket()
    for module in MODULES:
        monkeypatch.setattr(module, "boot_seconds", lambda: asyncio.get_running_loop().time())
    monkeypatch.setattr(limits, "Bucket", lambda *_: made)
    return made


def shared(name: str) -> SharedLimits:
    nobody: Any = None
    return SharedLimits(nobody, name)


class Calls:
    """Three nodes that always have a call more to make: when each began, how many run at most."""

    def __init__(self, bucket: Bucket, **limit: int) -> None:
        self.begun: list[float] = []
        self.peak = self._now = 0
        self._chance = Random(4)
        self._tasks: list[asyncio.Task[None]] = []
        for name in ("a", "b", "c"):
            known = condition.Condition(
                "k", route("http://x", **limit), shared(name), node=name, first_probe_s=5
            )
            its = gate.Gate(known, Random(name))
            bucket.heard_by.append(its.hear)
            work = [its.run(), *(self._call(its) for _ in range(20))]
            self._tasks += [asyncio.ensure_future(one) for one in work]  # noqa: TID251  # ended below

    async def _call(self, its: gate.Gate) -> None:
        while True:
            turn = await its.queue(0, "b").granted
            with turn:
                if not turn.may_start:
                    continue
                turn.is_used = True
                self.begun.append(asyncio.get_running_loop().time())
                self._now += 1
                self.peak = max(self.peak, self._now)
                await asyncio.sleep(self._chance.uniform(0.8, 1.2))
                self._now -= 1
                its.condition.note_answer(turn, 1)

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()

    def within(self, since: float, until: float) -> int:
        return sum(since <= at < until for at in self.begun)


STEPS = pytest.mark.parametrize("step_s", [3600, -3600, 30, -30])


@STEPS
def test_a_clock_that_is_put_to_another_time_neither_stops_nor_floods_a_pace(
    bucket: Bucket, step_s: int
) -> None:
    async def main() -> Calls:
        calls = Calls(bucket, rpm=300)
        await asyncio.sleep(70)
        bucket.ahead_s += step_s
        await asyncio.sleep(75)
        calls.end()
        return calls

    calls = run_virtual(main())
    assert max(calls.within(at, at + 60) for at in calls.begun) <= 300 * 1.01
    assert min(calls.within(at, at + 5) for at in range(5, 140, 5)) >= 20


@STEPS
def test_a_clock_that_is_put_to_another_time_neither_stops_nor_floods_calls_in_flight(
    bucket: Bucket, step_s: int
) -> None:
    async def main() -> Calls:
        calls = Calls(bucket, max_concurrency=10)
        await asyncio.sleep(30)
        bucket.ahead_s += step_s
        await asyncio.sleep(75)
        calls.end()
        return calls

    calls = run_virtual(main())
    assert calls.peak == 10
    assert min(calls.within(at, at + 5) for at in range(5, 100, 5)) >= 40


def test_the_permits_of_a_node_that_is_silent_run_out_though_others_write(bucket: Bucket) -> None:
    async def main() -> list[int]:
        nodes = {name: shared(name) for name in ("a", "b", "c")}

        async def ask(name: str) -> int:
            def step(state: RouteState, now: float) -> RouteState:
                return lease(state, name, now, Limits(concurrency=4), wanted=[0] * 4)[0]

            state = await nodes[name].change("k", step)
            return state.permits[name].held

        held = [await ask("a"), await ask("b"), await ask("c")]
        bucket.ahead_s += 3600
        for _ in range(4):
            await asyncio.sleep(2)
            held += [await ask("b"), await ask("c")]
        await asyncio.sleep(3)
        return [*held, await ask("b") + await ask("c")]

    *before, after = run_virtual(main())
    assert before == [4, *[0] * 10]
    assert after == 4
