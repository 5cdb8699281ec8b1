"""What a slice's last event says of calls in flight is never too few, in whatever order things go.

The writer is the real one. The log is a list in memory, which stores, refuses and forgets to
answer as an example says, between any two steps of the calls that run meanwhile.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.domain import slice as slices
from millstream.domain.decide import Stamp
from millstream.domain.recorded import microseconds
from millstream.errors import ConflictError, LogUnavailableError
from millstream.eventlog.stored import Stored
from millstream.runtime.clock import new_id
from millstream.testing.examples import example_cell, example_spec
from millstream.testing.nats import ACTOR, BATCH_ID, TIME
from millstream_generator import steps
from millstream_generator.calls import Call
from millstream_generator.completion import CallFailedError, Completion
from millstream_generator.in_flight import CountedCall, InFlight
from millstream_generator.measures import Tally
from millstream_generator.steps import Attempt
from millstream_generator.writer import LeaseLostError, SliceWriter
from millstream_schemas.events import dump
from millstream_schemas.slices import AttemptEvent, SliceEvent, SliceState, Usage

SIZE = 8
PARALLEL = 3
SPEC = example_spec(SIZE, slice_size=SIZE)
TURNS = 12
"""More steps than any task takes until it waits for the example again."""
STAMP = Stamp(new_id, TIME, ACTOR, "test", causation_id="test")

Verdict = Literal["stored", "unanswered", "away"]
End = Literal["made", "failed", "untold"]
Action = tuple[str, Any]


class Memory:
    """A log of one slice; each append waits until ``answer`` says what becomes of it."""

    def __init__(self) -> None:
        self.events: list[SliceEvent] = []
        self._waiting: list[asyncio.Future[Verdict]] = []

    @property
    def tail(self) -> SliceState:
        return self.events[-1].after if self.events else SliceState()

    async def until_idle(self) -> None:
        await asyncio.sleep(0)

    async def last(self, subject: str) -> Stored | None:
        if not self.events:
            return None
        return Stored(len(self.events), microseconds(TIME), subject, dump(self.events[-1]))

    async def append_chain(self, chain: Sequence[SliceEvent], *, expected: int) -> int:
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.append(verdict)
        said = await verdict
        if said != "away" and chain[0].id not in {event.id for event in self.events}:
            self.store(chain, expected)
        if said != "stored":
            raise LogUnavailableError("no answer")
        return len(self.events)

    def store(self, chain: Sequence[SliceEvent], expected: int) -> None:
        if expected != len(self.events):
            raise ConflictError("it moved on")
        self.events.extend(chain)

    def answer(self, verdict: Verdict) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(verdict)


class Holder:
    """A node at work on the slice, with as many calls at once as a slice has."""

    def __init__(self, world: "World", allowance: int | None) -> None:
        self._world = world
        self._left = allowance
        self._most = 0
        self.rests: set[Call] = set()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._running: dict[int, asyncio.Future[End]] = {}
        log, fullness = cast("Any", world.log), cast("Any", None)
        self.writer = SliceWriter(
            log, BATCH_ID, 0, lambda: STAMP, Tally(), fullness, InFlight(self._foresee)
        )

    def _foresee(self, _ended: int, waiting: int) -> int | None:
        ahead = self._world.ahead
        return None if ahead is None else waiting + ahead

    async def claim(self) -> None:
        """Take the slice over; whoever held it may append once more meanwhile."""
        while True:
            await self.writer.load()
            at_risk = slices.at_risk(self.writer.state, SIZE, PARALLEL)
            with contextlib.suppress(LeaseLostError):
                await self.writer.record(steps.claimed("n", at_risk=at_risk, allowance=self._left))
                # One slot at a time where nodes died again and again.
                self._most = 1 if slices.is_suspect(self.writer.state) else PARALLEL
                self.writer.in_flight.most = self._most
                return

    def start(self, offset: int) -> None:
        """Let a worker go for a slot, unless all are at work or the slot is done."""
        is_open = not slices.resolved(self.writer.state) >> offset & 1
        if is_open and offset not in self._tasks and len(self._tasks) < self._most:
            self._tasks[offset] = asyncio.create_task(self._call(offset))  # noqa: TID251

    def end(self, offset: int, how: End) -> None:
        """End the call of a slot, if it runs."""
        if offset in self._running and not self._running[offset].done():
            self._running[offset].set_result(how)

    def cancel(self, offset: int) -> None:
        """Cancel a worker whole, unless its call runs."""
        if offset in self._tasks and offset not in self._running:
            self._tasks[offset].cancel()

    def stop(self, _: None) -> None:
        """Cancel those who wait for an event that counts their call."""
        for call in list(self.rests):
            call.cancel()

    def end_all(self) -> Iterable[asyncio.Task[None]]:
        """End all at once; nothing of it is written any more."""
        for task in self._tasks.values():
            task.cancel()
        return list(self._tasks.values())

    async def _call(self, offset: int) -> None:
        try:
            with CountedCall(self.writer.in_flight) as call:
                if not (call.begin() or await self.writer.count(call, self.rests)):
                    return
                if self._left == 0:
                    return
                self._left = None if self._left is None else self._left - 1
                self._world.started += 1
                self._running[offset] = asyncio.get_running_loop().create_future()
                how = await self._running[offset]
                await self._tell(offset, how)
        except LeaseLostError:
            return
        finally:
            self._running.pop(offset, None)
            self._tasks.pop(offset, None)

    async def _tell(self, offset: int, how: End) -> None:
        attempt = Attempt(offset, offset, 1, example_cell(SPEC, offset), SPEC.routes[0], None)
        match how:
            case "untold":
                self.writer.lose_calls(1)
            case "made":
                completion = Completion("", "stop", Usage(), None)
                await self.writer.record(steps.generated(attempt, completion, {}))
            case "failed":
                failure = CallFailedError("server", "boom")
                await self.writer.record(steps.attempt_failed(attempt, failure, Usage(), None))


class World:
    """A slice, those who hold it or held it, and how many calls the provider has seen."""

    def __init__(self) -> None:
        self.log = Memory()
        self.ahead: int | None = 0
        self.started = 0
        self.holders: list[Holder] = []

    async def play(self, actions: list[Action]) -> None:
        await self._rescue(None)
        for name, argument in actions:
            await self._do(name, argument)
            await self._settle()
            self.check()
        for holder in self.holders:
            await asyncio.gather(*holder.end_all(), return_exceptions=True)

    async def _do(self, name: str, argument: Any) -> None:
        match name:
            case "start" | "cancel" | "stop":
                getattr(self.holders[-1], name)(argument)
            case "start old":  # it has not heard yet that the slice is another's
                self.holders[0].start(argument)
            case "end":
                for holder in self.holders:
                    holder.end(*argument)
            case "answer":
                self.log.answer(argument)
            case "ahead":
                self.ahead = argument
            case "die" | "rescue":
                if name == "die":
                    await asyncio.gather(*self.holders[-1].end_all(), return_exceptions=True)
                await self._rescue(argument)

    async def _rescue(self, allowance: int | None) -> None:
        """Claim the slice for another holder; what the log is to store meanwhile is lost."""
        self.log.answer("away")
        await self._settle()
        holder = Holder(self, allowance)
        claiming = asyncio.create_task(holder.claim())  # noqa: TID251
        while not claiming.done():
            await self._settle()
            self.log.answer("stored")
        await claiming
        self.holders.append(holder)

    async def _settle(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def check(self) -> None:
        """Fail if fewer calls are told of, written off or taken to be in flight than were made."""
        told = sum(isinstance(event, AttemptEvent) for event in self.log.events)
        tail = self.log.tail
        known = told + tail.unconfirmed + slices.at_risk(tail, SIZE, PARALLEL)
        assert self.started <= known, (self.started, told, tail)


OFFSETS = st.integers(0, SIZE - 1)
ALLOWANCES = st.none() | st.integers(0, 5)
ENDS = st.sampled_from(["made", "made", "failed", "untold"])
ACTIONS = st.one_of(
    st.tuples(st.just("start"), OFFSETS),
    st.tuples(st.just("start"), OFFSETS),
    st.tuples(st.just("start old"), OFFSETS),
    st.tuples(st.just("end"), st.tuples(OFFSETS, ENDS)),
    st.tuples(st.just("end"), st.tuples(OFFSETS, ENDS)),
    st.tuples(st.just("cancel"), OFFSETS),
    st.tuples(st.just("stop"), st.none()),
    st.tuples(st.just("answer"), st.sampled_from(["stored", "stored", "unanswered", "away"])),
    st.tuples(st.just("answer"), st.just("stored")),
    st.tuples(st.just("ahead"), st.sampled_from([None, 0, 1, 4])),
    st.tuples(st.just("die"), ALLOWANCES),
    st.tuples(st.just("rescue"), ALLOWANCES),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(ACTIONS, max_size=60))
def test_calls_that_started_are_told_of_or_counted_in_every_order_of_things(
    actions: list[Action],
) -> None:
    asyncio.run(World().play(actions))
