"""Budgets: whatever dispatchers, nodes and deaths come in between, no call goes beyond them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.domain import budget
from millstream.domain import slice as slices
from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.budget import CallBound, Grant
from millstream.domain.slice import parallel_calls
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream_schemas.control import Budgets

BOUND = CallBound(tokens=100, cost_nano_usd=1_000)
SLICES, SIZE = 4, 4


@dataclass
class Holder:
    """A node at work on one slice."""

    index: int
    epoch: int
    left: int
    is_dead: bool = False
    """Frozen or cut off; it may come back."""
    is_fenced: bool = False
    """It has heard that the slice is another's, or has given it up."""
    in_flight: list[int] = field(default_factory=list)
    """What each call in flight will have cost, also when nobody hears of it."""


@dataclass
class Dispatcher:
    """One that leads, or thinks so: it has folded the log up to ``as_of``."""

    state: BatchState
    as_of: int = 0


class World:
    """A log, a ledger, nodes that die, and two dispatchers that are never quite up to date."""

    def __init__(self, seed: int, budgets: Budgets) -> None:
        self.rng = Random(seed)
        spec = example_spec(SLICES * SIZE, slice_size=SIZE, concurrency=32, budgets=budgets)
        self.spec = spec
        self.script = Script(spec=spec)
        self.script.start()
        self.ledger: tuple[int, dict[int, Grant]] = (0, {})
        self.dispatchers = [Dispatcher(BatchState(self.script.batch_id)) for _ in range(2)]
        self.holders: list[Holder] = []
        self.calls = self.cost = 0

    def tail(self, index: int) -> slices.SliceState:
        return self.script.slices.get(index, slices.SliceState())

    def sequence(self, index: int) -> int:
        """Return the sequence of the slice's last event, 0 before the first."""
        made = self.script.tape.recorded
        return max([0, *(one.sequence for one in made if getattr(one.event, "slice", -1) == index)])

    def holder(self, index: int) -> Holder | None:
        """Return whoever holds the slice by the log, dead or not."""
        epoch = self.tail(index).epoch
        found = (one for one in self.holders if (one.index, one.epoch) == (index, epoch))
        return next(found, None) if self.tail(index).node else None

    def catch_up(self, one: Dispatcher, to: int) -> None:
        for recorded in self.script.tape.recorded[one.as_of : to]:
            one.state = apply(one.state, recorded)
        one.as_of = max(one.as_of, to)

    def gone(self, one: Dispatcher) -> dict[int, int]:
        """Return the slices whose holder is dead, as far as the dispatcher has folded the log."""
        found = {}
        for index in range(SLICES):
            tail = budget.tail(one.state, index)
            epochs = {dead.epoch for dead in self.holders if dead.index == index and dead.is_dead}
            if tail.node and tail.epoch in epochs:
                found[index] = min(parallel_calls(self.spec), tail.allowance or 0)
        return found

    def allot(self, one: Dispatcher) -> None:
        as_of, grants = self.ledger
        if one.as_of < as_of or not one.state.started:
            return
        order = self.rng.sample(range(SLICES), SLICES)
        gone = self.gone(one)
        wanted = [index for index in order if index in gone or not one_holds(one, index)]
        made, _ = budget.allot(one.state, grants, gone, BOUND, wanted)
        self.ledger = (one.as_of, made)

    def claim(self, index: int) -> None:
        grant, tail = self.ledger[1].get(index), self.tail(index)
        if grant is None or slices.is_done(tail, SIZE):
            return
        if not grant.is_for(tail.epoch, self.sequence(index)):
            return
        open_slots = len(slices.open_offsets(tail, SIZE))
        at_risk = min(parallel_calls(self.spec), open_slots)
        self.script.claim(index, at_risk=at_risk, allowance=grant.calls)
        self.holders.append(Holder(index, grant.epoch, grant.calls))

    def start(self, one: Holder) -> None:
        """Start a call, also of a holder that does not know yet that it is fenced."""
        if one.is_dead or one.is_fenced or not one.left:
            return
        tail = self.tail(one.index)
        if len(one.in_flight) < min(
            parallel_calls(self.spec), len(slices.open_offsets(tail, SIZE))
        ):
            one.left -= 1
            # Whole tokens: two for each 20 of the cost, in the sum as in each call.
            one.in_flight.append(20 * self.rng.randint(0, (BOUND.cost_nano_usd or 0) // 20))
            self.calls += 1
            self.cost += one.in_flight[-1]

    def settle(self, one: Holder) -> None:
        """End a call; what a fenced holder hears is in no event, a dead one may still tell."""
        if not one.in_flight or one.is_dead:
            return
        cost = one.in_flight.pop()
        if self.holder(one.index) is not one:
            one.is_fenced = True
            return
        offset = self.rng.choice(slices.open_offsets(self.tail(one.index), SIZE))
        slot = one.index * SIZE + offset
        tokens = {"tokens_in": cost // 20, "tokens_out": cost // 20}
        how = self.rng.choice(["generate", "generate", "reject", "fail_attempt"])
        getattr(self.script, how)(slot, cost_nano_usd=cost, **tokens)

    def release(self, one: Holder) -> None:
        is_idle = not one.is_dead and not one.in_flight and self.holder(one.index) is one
        if is_idle and not slices.is_done(self.tail(one.index), SIZE):
            self.script.release(one.index)
            one.is_fenced = True

    def step(self) -> None:
        """Let one thing happen."""
        one = self.rng.choice(self.dispatchers)
        moves: list[Callable[[], None]] = [
            lambda: self.catch_up(one, self.rng.randint(one.as_of, len(self.script.tape.entries))),
            lambda: self.allot(one),
            lambda: self.claim(self.rng.randrange(SLICES)),
        ]
        if self.holders:
            holder = self.rng.choice(self.holders)
            moves += [lambda: self.start(holder)] * 4
            moves += [lambda: self.settle(holder)] * 4
            moves += [lambda: self.release(holder)]
            if self.rng.random() < 0.3:
                moves += [lambda: setattr(holder, "is_dead", not holder.is_dead)]
        self.rng.choice(moves)()


def one_holds(one: Dispatcher, index: int) -> bool:
    return budget.tail(one.state, index).node != ""


def assert_within(world: World) -> None:
    budgets = world.spec.budgets
    assert world.calls <= (budgets.max_attempts or world.calls)
    assert world.cost <= (budgets.max_cost_nano_usd or world.cost)
    assert world.cost // 10 <= (budgets.max_tokens or world.cost)


ANY_BUDGETS = st.builds(
    Budgets,
    max_cost_nano_usd=st.one_of(st.none(), st.integers(500, 20_000)),
    max_tokens=st.one_of(st.none(), st.integers(50, 2_000)),
    max_attempts=st.one_of(st.none(), st.integers(1, 30)),
).filter(lambda budgets: budgets.bounds_calls)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), budgets=ANY_BUDGETS)
def test_no_order_of_grants_deaths_and_answers_goes_beyond_a_budget(
    seed: int, budgets: Budgets
) -> None:
    world = World(seed, budgets)
    for _ in range(250):
        world.step()
        assert_within(world)
    finish(world)
    assert_within(world)


def finish(world: World) -> None:
    """Let one dispatcher and nodes that live bring the batch to its end.

    The batch is then whole, or no further call can be granted and none is waited for.
    """
    one = world.dispatchers[0]
    for _ in range(400):
        for holder in world.holders:
            world.start(holder)
            world.settle(holder)
            world.release(holder)
        world.catch_up(one, len(world.script.tape.entries))
        world.allot(one)
        for index in range(SLICES):
            world.claim(index)
    gone = world.gone(one)
    world.catch_up(one, len(world.script.tape.entries))
    reserved = budget.reserved_calls(one.state, world.ledger[1])
    is_spent = not budget.affordable(world.spec.budgets, one.state, BOUND, reserved)
    is_waiting = budget.moving_calls(one.state, world.ledger[1], gone)
    left = sum(not slices.is_done(world.tail(index), SIZE) for index in range(SLICES))
    assert not left or (is_spent and not is_waiting)


def state_of(budgets: Budgets, *, made: int = 0, failed: int = 0) -> BatchState:
    script = Script(spec=example_spec(60, slice_size=60, budgets=budgets))
    script.start()
    script.claim(0)
    for slot in range(made):
        script.generate(slot, cost_nano_usd=500, tokens_in=30, tokens_out=20)
    for slot in range(made, made + failed):
        script.fail(slot)
    state = BatchState(script.batch_id)
    for recorded in script.tape.recorded:
        state = apply(state, recorded)
    return state


def test_the_share_of_failures_counts_from_the_twentieth_outcome_on() -> None:
    budgets = Budgets(max_failure_ratio=0.25)
    few = state_of(budgets, made=9, failed=10)
    now = few.started.stored_at if few.started else None
    assert now is not None
    assert budget.overdrawn(budgets, few, now) is None
    assert budget.overdrawn(budgets, state_of(budgets, made=15, failed=5), now) is None
    reason = budget.overdrawn(budgets, state_of(budgets, made=14, failed=6), now)
    assert reason == "budget_failures: 6 of 20 outcomes failed, at most 25% may"


def test_a_duration_counts_from_the_start() -> None:
    budgets = Budgets(max_duration_s=60)
    state = state_of(budgets)
    assert state.started is not None
    began = state.started.stored_at
    assert budget.overdrawn(budgets, state, began + timedelta(seconds=59)) is None
    reason = budget.overdrawn(budgets, state, began + timedelta(seconds=61))
    assert reason == "budget_duration: 61.0 s of 60 s are used"
    shares = budget.used(budgets, state, None, began + timedelta(seconds=48))
    assert shares == {"duration": 0.8}


def test_without_a_price_a_cost_budget_grants_nothing_and_says_why() -> None:
    budgets = Budgets(max_cost_nano_usd=1_000_000)
    state, bound = state_of(budgets), CallBound(100, None)
    assert budget.affordable(budgets, state, bound, 0) == 0
    assert "no price is known" in budget.spent_up(budgets, state, bound)


@pytest.mark.parametrize(
    ("budgets", "words"),
    [
        (Budgets(max_cost_nano_usd=5_400), "budget_cost: $0.000005 of $0.0000054 are used"),
        (Budgets(max_cost_nano_usd=100), "budget_cost: $0.000005 of $0.0000001 are used"),
        (Budgets(max_tokens=550), "budget_tokens: 500 of 550 are used"),
        (Budgets(max_attempts=10), "budget_attempts: 10 of 10 are used"),
    ],
)
def test_a_used_up_budget_is_named_with_its_figures(budgets: Budgets, words: str) -> None:
    state = state_of(budgets, made=10)
    assert budget.affordable(budgets, state, BOUND, 0) == 0
    assert budget.spent_up(budgets, state, BOUND).startswith(words)
    assert "besides these, 3 that nodes" in budget.spent_up(budgets, state, BOUND, 3)
    shares = budget.used(budgets, state, BOUND, state.started.stored_at)  # type: ignore[union-attr]
    assert max(shares.values()) >= budget.WARN_AT


def test_calls_that_nobody_told_the_use_of_count_in_full() -> None:
    budgets = Budgets(max_cost_nano_usd=10_000, max_tokens=1_000, max_attempts=10)
    script = Script(spec=example_spec(60, slice_size=60, budgets=budgets))
    script.start()
    script.claim(0)
    script.fail_attempt(0, "timeout", tokens_in=0, cost_nano_usd=0)
    script.claim(0, at_risk=6)
    state = BatchState(script.batch_id)
    for recorded in script.tape.recorded:
        state = apply(state, recorded)
    assert budget.affordable(budgets, state, BOUND, 0) == 3
    assert state.started is not None
    shares = budget.used(budgets, state, BOUND, state.started.stored_at)
    assert shares == {"cost": 0.7, "tokens": 0.7, "attempts": 0.7}
    words = budget.spent_up(Budgets(max_cost_nano_usd=7_000), state, BOUND)
    assert words.startswith("budget_cost: $0.000007 of $0.000007 are used")
    assert words.endswith("; 6 calls of unknown use count in full")
