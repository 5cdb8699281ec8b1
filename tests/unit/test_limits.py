"""No interleaving of nodes takes a route above its limits."""

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.domain import limits as rules
from millstream.domain.limits import Breaker, Limits, RouteState, Slot, lease, settled
from millstream.domain.pace import Pace
from millstream.domain.permits import Permit

NODES = ("a", "b", "c", "d")
START = 1_767_225_600.0

asks = st.lists(
    st.tuples(st.floats(0, 3), st.sampled_from(NODES), st.integers(1, 40)),
    min_size=1,
    max_size=120,
)

HALF = Pace(rate=5.0, cut_at=START, before=10.0, whole=10.0, is_guess=False)


def play(
    limits: Limits, steps: Sequence[tuple[float, str, int]], tokens: int = 0
) -> tuple[list[Slot], RouteState]:
    """Return every slot that was given away to nodes that ask one after the other."""
    now, state = START, RouteState()
    given_away: list[Slot] = []
    for gap, node, count in steps:
        now += gap
        state, got = lease(state, node, now, limits, wanted=[tokens] * count)
        given_away += got.slots
    return given_away, state


def most_in_a_minute(times: Sequence[float]) -> int:
    """Return the largest number of times in any closed window of 60 s."""
    ordered, most, first = sorted(times), 0, 0
    for last, at in enumerate(ordered):
        while at - ordered[first] > 60.0:
            first += 1
        most = max(most, last - first + 1)
    return most


@settings(max_examples=300)
@given(rpm=st.integers(1, 3000), steps=asks, seed=st.integers(0, 2**32), lost=st.floats(0, 0.9))
def test_no_window_of_a_minute_holds_more_calls_than_the_limit_whatever_nodes_do(
    rpm: int, steps: list[tuple[float, str, int]], seed: int, lost: float
) -> None:
    """Calls start and travel late, and leases are lost with their nodes."""
    chance = random.Random(seed)
    slots, _ = play(Limits(rpm=rpm), steps)
    arrivals = [
        slot.due_at + chance.uniform(0, rules.SLACK_S) for slot in slots if chance.random() >= lost
    ]
    assert most_in_a_minute(arrivals) <= rpm


@pytest.mark.parametrize("rpm", [1, 7, 60, 600, 6000])
def test_a_busy_route_uses_almost_all_of_its_limit(rpm: int) -> None:
    now, state = START, RouteState()
    slots: list[Slot] = []
    while now < START + 600:
        state, got = lease(state, "a", now, Limits(rpm=rpm), wanted=[0] * 10_000)
        slots += got.slots
        now = max(got.ask_at, now + 0.01)
    assert len(slots) >= 0.98 * rpm * 10


@given(rpm=st.integers(1, 3000), steps=asks)
def test_due_times_never_meet_and_lie_within_reach(
    rpm: int, steps: list[tuple[float, str, int]]
) -> None:
    now, state, last = START, RouteState(), 0.0
    for gap, node, count in steps:
        now += gap
        state, got = lease(state, node, now, Limits(rpm=rpm), wanted=[0] * count)
        for slot in got.slots:
            assert slot.due_at >= last + 60 / rpm
            assert now < slot.due_at <= now + 2.0
            last = slot.due_at


@settings(max_examples=200)
@given(
    tpm=st.integers(1000, 1_000_000),
    tokens=st.integers(1, 500),
    steps=asks,
)
def test_no_window_of_a_minute_reserves_more_tokens_than_the_limit(
    tpm: int, tokens: int, steps: list[tuple[float, str, int]]
) -> None:
    slots, _ = play(Limits(tpm=tpm), steps, tokens)
    assert most_in_a_minute([slot.due_at for slot in slots]) * tokens <= tpm


def test_a_call_that_reserves_more_than_the_limit_starts_all_the_same() -> None:
    limits = Limits(tpm=1000)
    state, got = lease(RouteState(), "a", START, limits, wanted=[5000, 5000])
    assert len(got.slots) == 1
    assert got.ask_at > START + 500
    _, again = lease(state, "b", got.ask_at + rules.LEAD_S, limits, wanted=[10])
    assert len(again.slots) == 1


def test_tokens_that_were_not_used_shorten_the_wait() -> None:
    limits = Limits(tpm=6000)
    state, _ = lease(RouteState(), "a", START, limits, wanted=[3000])
    _, late = lease(state, "b", START + 1, limits, wanted=[10])
    assert late.slots == ()
    refunded = settled(state, limits, 2950, 3000)
    _, soon = lease(refunded, "b", START + 1, limits, wanted=[10])
    assert len(soon.slots) == 1
    assert settled(state, limits, 10**9, 3000).reserved_s == 0.0
    assert settled(state, limits, -100, 3000).reserved_s > state.reserved_s


def test_a_throttled_route_is_given_its_share_and_no_slot_before_the_cooldown_ends() -> None:
    cut = RouteState(pace=HALF, cooldown_until=START + 10)
    state, none = lease(cut, "a", START + 5, Limits(rpm=600), wanted=[0] * 50)
    assert (none.slots, none.ask_at) == ((), START + 10)
    _, got = lease(state, "a", START + 10, Limits(rpm=600), wanted=[0] * 50)
    gaps = [b.due_at - a.due_at for a, b in zip(got.slots, got.slots[1:], strict=False)]
    assert min(gaps) > 0.19


def test_an_open_circuit_gives_no_slot() -> None:
    state = RouteState(breaker=Breaker(open_until=START - 1, backoff_s=2))
    for limits in (Limits(), Limits(rpm=60), Limits(concurrency=4)):
        assert lease(state, "a", START, limits, wanted=[0])[1].slots == ()


@given(ahead=st.floats(10, 10**7))
def test_times_of_a_clock_that_has_jumped_back_hold_nobody_up(ahead: float) -> None:
    ahead += 1000
    state = RouteState(
        requested_at=START + ahead,
        reserved_at=START + ahead,
        cooldown_until=START + ahead,
        pace=HALF.model_copy(update={"cut_at": START + ahead}),
        breaker=Breaker(open_until=START + ahead, backoff_s=4, probe_by="b", probe_until=START),
        permits={"b": Permit(held=4, wanted=4, until=START + ahead)},
    )
    healed = rules.sound(state, START)
    assert rules.cut_at(healed) == START
    assert healed.cooldown_until <= START
    assert healed.breaker is not None
    assert healed.breaker.open_until <= START
    limits = Limits(rpm=60, tpm=600, concurrency=4)
    without = healed.model_copy(update={"breaker": None})
    asked_at = START + 1.01  # one interval after the last due time, which was put to now
    assert len(lease(without, "a", asked_at, limits, wanted=[0])[1].slots) == 1


def test_due_times_are_given_for_as_many_calls_as_there_are_permits() -> None:
    limits = Limits(rpm=6000, concurrency=3)
    state, got = lease(RouteState(), "a", START, limits, wanted=[0] * 9)
    assert (len(got.slots), state.permits["a"].held) == (3, 3)
    _, none = lease(state, "b", START + 1, limits, wanted=[0])
    assert none.slots == ()


def test_a_route_without_a_pace_has_no_due_times_but_permits() -> None:
    state, got = lease(RouteState(), "a", START, Limits(concurrency=3), wanted=[0] * 9)
    assert (got.slots, state.permits["a"].held) == ((), 3)


def test_a_route_without_limits_has_the_due_times_that_refusals_have_left() -> None:
    state, got = lease(RouteState(pace=HALF), "a", START, Limits(), wanted=[0] * 9)
    gaps = [b.due_at - a.due_at for a, b in itertools.pairwise(got.slots)]
    assert len(got.slots) == 5
    assert gaps == pytest.approx([0.2] * 4, rel=0.01)
    _, part = lease(rules.part(state, 2), "b", got.ask_at + rules.LEAD_S, Limits(), wanted=[0] * 9)
    gaps = [b.due_at - a.due_at for a, b in itertools.pairwise(part.slots)]
    assert gaps == pytest.approx([0.4] * len(gaps), rel=0.02)


def test_a_throttled_route_has_its_permits_beside_the_due_times() -> None:
    state, got = lease(RouteState(pace=HALF), "a", START, Limits(concurrency=3), wanted=[0] * 9)
    assert (len(got.slots), state.permits["a"].held) == (3, 3)
    _, free = lease(state, "a", START + 1000, Limits(concurrency=3), wanted=[0] * 9)
    assert free.slots == ()


def test_limits_are_divided_when_nodes_cannot_agree() -> None:
    assert Limits(600, 6000, 5).shared_by(4) == Limits(150, 1500, 1)
    assert Limits(None, None, 2).shared_by(4) == Limits(None, None, 1)
    assert not Limits().shared_by(3).is_any
