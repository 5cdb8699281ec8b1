"""What refusals teach of a route's pace."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.domain import pace as rules
from millstream.domain.pace import Pace

START = 1_767_225_600.0


def measured(rate: float) -> Pace:
    """Return a pace that was cut by what was counted."""
    return Pace(rate=rate, cut_at=START, before=rate, whole=rate, is_guess=False)


def counted(pace: Pace, tried: int, refused: int) -> Pace:
    pace = rules.tried(pace, tried, pace.rate)
    for _ in range(refused):
        pace = rules.refused(pace)
    return pace


def test_a_pace_grows_by_itself_slowly_at_first_until_the_route_is_free() -> None:
    pace = measured(10.0)
    rates = [rules.rate(pace, START + after, START) for after in (0, 10, 20, 40, 70, 116)]
    assert rates == pytest.approx([10, 10.5, 12.2, 22, 112, 7700], rel=0.02)
    assert math.isinf(rules.rate(pace, START + 118, START))
    assert math.isinf(rules.rate(None, START, START))


def test_a_pace_of_few_calls_grows_later_and_a_guessed_one_at_once() -> None:
    assert rules.rate(measured(1.0), START + 45, START) == pytest.approx(1.15, rel=0.01)
    guess = measured(1.0).model_copy(update={"is_guess": True})
    assert rules.rate(guess, START + 8.6, START) == pytest.approx(100, rel=0.05)


def test_a_pace_stands_still_in_a_cooldown() -> None:
    assert rules.rate(measured(10.0), START + 60, START + 60) == 10


@pytest.mark.parametrize(("tried", "refused"), [(3, 1), (30, 3), (400, 30)])
def test_few_refusals_are_tolerated_and_more_of_them_are_not(tried: int, refused: int) -> None:
    assert rules.is_tolerable(counted(measured(100.0), tried, refused))
    assert not rules.is_tolerable(counted(measured(100.0), tried, 2 * refused))


def test_a_cut_leaves_the_part_of_the_calls_that_was_taken() -> None:
    pace = rules.cut(counted(measured(10.0), 32, 16), START + 9, 12.0)
    assert pace.rate == pytest.approx(12 * 0.6)
    assert (pace.before, pace.cut_at) == (12, START + 9)
    few = rules.cut(counted(measured(10.0), 40, 4), START + 9, 10.0)
    assert few.rate == pytest.approx(8.5)
    most = rules.cut(counted(measured(10.0), 60, 60), START + 9, 10.0)
    assert (most.rate, most.is_guess, most.lost) == (2.5, False, 60)
    assert rules.is_storm(rules.refused(rules.tried(most, 1, 2.5)))


def test_what_led_to_a_cut_is_counted_until_a_call_after_it_is() -> None:
    pace = rules.cut(counted(measured(10.0), 20, 10), START, 10.0)
    deeper = rules.deepened(pace)
    assert deeper.rate < pace.rate
    assert rules.is_tolerable(rules.tried(deeper, 1, 5.0))
    assert rules.tried(deeper, 1, 5.0).refused == 0


def test_a_provider_that_refuses_all_calls_is_asked_again_no_slower_for_it() -> None:
    pace, now = rules.first(64, 64.0, START), START
    for _ in range(20):
        now += 30
        pace = rules.refused(rules.tried(pace, 1, pace.rate))
        pace = rules.cut(pace, now, pace.rate, is_out=True)
    assert (pace.rate, pace.is_guess) == (rules.GUESS_LEAST, True)
    slow = rules.cut(counted(measured(0.3), 2, 2), START, 0.3, is_out=True)
    assert (slow.rate, slow.is_guess) == (0.3, True)


def test_counts_reach_back_to_the_last_calls_alone() -> None:
    pace = measured(4.0)
    for _ in range(1000):
        pace = rules.tried(pace, 1, 4.0)
    assert pace.tried <= rules.COUNTED_LEAST
    assert not rules.is_tolerable(counted(pace, 4, 6))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.floats(0, 100)), max_size=40))
def test_no_history_takes_a_pace_below_its_least_or_lets_a_cut_raise_it(
    history: list[tuple[int, int, float]],
) -> None:
    pace, now = rules.first(5, 5.0, START), START
    for tried, refused, gap in history:
        now += gap
        rate = min(1e6, rules.rate(pace, now, START))
        pace = rules.cut(rules.refused(counted(pace, tried, refused)), now, rate)
        assert rules.RATE_LEAST <= pace.rate <= rate
        assert rules.deepened(pace).rate <= pace.rate
