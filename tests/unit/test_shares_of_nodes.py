"""How nodes share their calls among batches: real intakes, rooms and windows in virtual time.

Only the queue, the log and the model are made up: a line for each class, a fold that hears of an
outcome a moment later, and calls that take about a second.
"""

import asyncio
import contextlib
import dataclasses
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from random import Random
from types import SimpleNamespace
from typing import Any, Self

import pytest

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState, SliceTail
from millstream.domain.slice import parallel_calls
from millstream.eventlog.work import WorkSize
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.virtual_time import run_virtual
from millstream_generator import intake
from millstream_generator.room import Room, Workers
from millstream_generator.weights import WEIGHTS
from millstream_generator.windows import Window
from millstream_schemas.slices import SliceState, bitmap
from millstream_schemas.subjects import PRIORITIES, Priority, WorkSubject

CALLS = 256
"""Calls in flight of a node."""
CALL_S = 1.0
TOLD_S = 0.03
"""How long after an outcome the dispatcher has folded it."""
CLAIM_S = 0.01
AWAY_S = 0.002
"""How far the queue is from a node."""


@dataclasses.dataclass(eq=False)
class Lease:
    """A slice in a line or on a node."""

    batch: "Batch"
    index: int
    work: WorkSubject
    size: WorkSize

    async def give_back(self, delay_s: float = 0.0) -> None:
        await asyncio.sleep(AWAY_S)
        asyncio.get_running_loop().call_later(delay_s, self.batch.lines.put_back, self)


class Lines:
    """The work queue: what was given back is served first, and who waits gets what comes next."""

    def __init__(self) -> None:
        self._lines: defaultdict[str, deque[Lease]] = defaultdict(deque)
        self._again: defaultdict[str, deque[Lease]] = defaultdict(deque)
        self._waits: defaultdict[str, deque[asyncio.Future[Lease]]] = defaultdict(deque)

    def put(self, lease: Lease) -> None:
        if not self._handed_over(lease):
            self._lines[lease.work.priority].append(lease)

    def put_back(self, lease: Lease) -> None:
        if not self._handed_over(lease):
            self._again[lease.work.priority].append(lease)

    def _handed_over(self, lease: Lease) -> bool:
        waits = self._waits[lease.work.priority]
        while waits:
            if not (wait := waits.popleft()).done():
                wait.set_result(lease)
                return True
        return False

    async def take(self, _pool: str, priority: Priority, most: int) -> list[Lease]:
        await asyncio.sleep(AWAY_S)
        found = [lease for _ in range(most) if (lease := self._next(priority)) is not None]
        await asyncio.sleep(AWAY_S)
        return found

    def _next(self, priority: Priority) -> Lease | None:
        line = self._again[priority] or self._lines[priority]
        return line.popleft() if line else None

    async def lease(self, _pool: str, priority: Priority) -> Lease | None:
        if (lease := self._next(priority)) is not None:
            return lease
        wait: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._waits[priority].append(wait)
        await asyncio.wait([wait], timeout=1.0)
        if wait.done():
            return wait.result()
        wait.cancel()
        return None


class Batch:
    """A batch of a million: its window of slices, and what came of them."""

    def __init__(self, lines: Lines, name: str, priority: Priority, **spec: Any) -> None:
        script = Script(spec=example_spec(**{"target": 1_000_000, "slice_size": 64, **spec}))
        script.start()
        self.lines = lines
        self.spec = script.spec
        self._name, self._priority = name, priority
        self._state = apply(BatchState(script.batch_id), script.tape.recorded[0])
        self._window = Window(self._state)
        self._done: dict[int, int] = {}
        self.outcomes = 0
        self.in_flight = self.in_flight_most = 0

    def dispatch(self) -> None:
        wanted = self._window.wanted(self._state)
        size = WorkSize(parallel_calls(self.spec), self.spec.slice_size)
        self._window.is_queued(wanted)
        for index in wanted:
            work = WorkSubject("default", self._priority, self._name, index)
            self.lines.put(Lease(self, index, work, size))

    def _told(self, index: int) -> None:
        tail = SliceTail(1, SliceState(node="g", generated=bitmap(self._done[index])))
        self._state = dataclasses.replace(
            self._state, slices=self._state.slices.insert(index, tail)
        )
        if self._window.moved(self._state, index):
            self.dispatch()

    async def fill(self, node: Any, lease: Lease, workers: Workers, rng: Random) -> None:
        """Do a slice as `slice_work` does."""
        later = asyncio.get_running_loop().call_later
        await asyncio.sleep(CLAIM_S)
        self._done[lease.index] = 0
        later(TOLD_S, self._told, lease.index)
        size = self._state.slice_size(lease.index)
        offsets = iter(range(size))
        workers.resize(count := min(size, lease.size.calls))

        async def work() -> None:
            for offset in offsets:
                async with node.slots:
                    self.in_flight += 1
                    self.in_flight_most = max(self.in_flight_most, self.in_flight)
                    await asyncio.sleep(CALL_S * rng.uniform(0.8, 1.2))
                    self.in_flight -= 1
                self.outcomes += 1
                self._done[lease.index] |= 1 << offset
                later(TOLD_S, self._told, lease.index)
            workers.end_one()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(work())


class World:
    """Some nodes, and batches that begin together."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, nodes: int) -> None:
        self.lines, self._rng = Lines(), Random(nodes)
        self._nodes = [_node(number) for number in range(nodes)]
        monkeypatch.setattr(intake, "WorkQueue", lambda _answers: self.lines)
        monkeypatch.setattr(intake, "work_on", self._work_on)

    async def _work_on(self, node: Any, _held: Any, lease: Lease, workers: Workers) -> None:
        await lease.batch.fill(node, lease, workers, self._rng)

    def begin(self, name: str, priority: Priority, **spec: Any) -> Batch:
        batch = Batch(self.lines, name, priority, **spec)
        batch.dispatch()
        return batch

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[Self]:
        async with asyncio.TaskGroup() as tasks:
            intakes = [intake.Intake(node, None) for node in self._nodes]  # type: ignore[arg-type]
            runs = [tasks.create_task(one.run()) for one in intakes]
            yield self
            for run in runs:
                run.cancel()


def _node(number: int) -> Any:
    settings = SimpleNamespace(pool="default", node_concurrency=CALLS, node=f"g{number}")
    return SimpleNamespace(
        settings=settings,
        room=Room(CALLS),
        slots=asyncio.Semaphore(CALLS),
        stop=asyncio.Event(),
        event_log=SimpleNamespace(answers=None),
        is_held_up=False,
    )


async def _outcomes(batches: Sequence[Batch], after_s: float, within_s: float) -> list[int]:
    """Return how many outcomes each batch has in a steady window."""
    await asyncio.sleep(after_s)
    before = [batch.outcomes for batch in batches]
    await asyncio.sleep(within_s)
    return [batch.outcomes - begun for batch, begun in zip(batches, before, strict=True)]


@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_samples_of_three_classes_come_eight_to_four_to_one(
    monkeypatch: pytest.MonkeyPatch, nodes: int
) -> None:
    """On three nodes class high may have 473 calls in flight, of the 600 that its batch allows."""

    async def run() -> list[int]:
        async with World(monkeypatch, nodes).at_work() as world:
            batches = [world.begin(name, name, concurrency=600) for name in PRIORITIES]
            return await _outcomes(batches, 4.0, 16.0)

    outcomes = run_virtual(run())
    assert sum(outcomes) > 0.95 * 16 * nodes * CALLS / CALL_S
    for priority, found in zip(PRIORITIES, outcomes, strict=True):
        assert found * 13 / sum(outcomes) == pytest.approx(WEIGHTS[priority], rel=0.1)


def test_what_a_batch_at_its_concurrency_can_t_take_goes_to_the_other_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> tuple[list[int], list[Batch]]:
        async with World(monkeypatch, 3).at_work() as world:
            bounds: dict[Priority, int] = {"high": 200, "normal": 600, "low": 600}
            batches = [world.begin(name, name, concurrency=n) for name, n in bounds.items()]
            return await _outcomes(batches, 4.0, 12.0), batches

    outcomes, batches = run_virtual(run())
    assert batches[0].in_flight_most <= 200
    assert outcomes[0] > 0.85 * 12 * 200 / CALL_S
    assert sum(outcomes) > 0.95 * 12 * 3 * CALLS / CALL_S
    assert outcomes[1] == pytest.approx(4 * outcomes[2], rel=0.15)


@pytest.mark.parametrize("concurrency", [100, 256, 600])
def test_a_batch_alone_has_its_whole_concurrency_in_flight_and_never_more(
    monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    async def run() -> tuple[int, Batch]:
        async with World(monkeypatch, 3).at_work() as world:
            batch = world.begin("alone", "normal", concurrency=concurrency)
            return (await _outcomes([batch], 4.0, 8.0))[0], batch

    outcomes, batch = run_virtual(run())
    assert batch.in_flight_most <= concurrency
    assert outcomes > 0.9 * 8 * concurrency / CALL_S


@pytest.mark.parametrize("nodes", [1, 3])
def test_batches_of_a_class_get_equal_shares_on_any_number_of_nodes(
    monkeypatch: pytest.MonkeyPatch, nodes: int
) -> None:
    async def run() -> list[int]:
        async with World(monkeypatch, nodes).at_work() as world:
            batches = [world.begin(name, "normal", concurrency=600) for name in ("a", "b", "c")]
            return await _outcomes(batches, 4.0, 16.0)

    outcomes = run_virtual(run())
    assert outcomes == [pytest.approx(sum(outcomes) / 3, rel=0.1)] * 3


@pytest.mark.parametrize("priority", PRIORITIES)
def test_a_small_batch_beside_one_of_a_million_is_begun_at_once(
    monkeypatch: pytest.MonkeyPatch, priority: Priority
) -> None:
    """All calls of three nodes are taken, and the large batch's line is never empty."""

    async def run() -> Batch:
        async with World(monkeypatch, 3).at_work() as world:
            world.begin("large", "normal", concurrency=2000)
            await asyncio.sleep(2.0)
            batch = world.begin("small", priority, target=10, slice_size=1)
            await asyncio.sleep(0.5 + 1.2 * CALL_S)
            return batch

    assert run_virtual(run()).outcomes > 0
