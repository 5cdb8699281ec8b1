"""What follows from a failed attempt."""

import random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream_generator.completion import CallFailedError, Link
from millstream_generator.policy import (
    ATTEMPTS_MOST,
    BACKOFF_MOST_S,
    LOSSES_MOST,
    Retry,
    Streak,
    Verdict,
    after_failure,
    uses_attempt,
)
from millstream_schemas.errors import ErrorCategory

CATEGORIES: tuple[ErrorCategory, ...] = get_args(ErrorCategory)
COUNTED: list[ErrorCategory] = [
    "timeout",
    "invalid_request",
    "content_filter",
    "server",
    "validation",
]
OUTAGES: list[ErrorCategory] = ["server", "timeout"]


def failure(
    category: ErrorCategory,
    *,
    status: int | None = None,
    retry_after_s: float | None = None,
    link: Link | None = None,
) -> CallFailedError:
    return CallFailedError(
        category, "no answer", status_code=status, retry_after_s=retry_after_s, link=link
    )


def after(error: CallFailedError, used: int, *, most: int = 20) -> object:
    return after_failure(error, used, most, random.Random(1))


def test_every_category_has_a_bound_and_only_limits_and_refused_keys_use_no_attempt() -> None:
    assert set(ATTEMPTS_MOST) == set(CATEGORIES)
    assert [category for category in CATEGORIES if uses_attempt(failure(category))] == [
        category for category in CATEGORIES if category in COUNTED
    ]


@pytest.mark.parametrize("category", OUTAGES)
def test_what_befalls_every_call_of_a_route_costs_a_slot_no_attempt(
    category: ErrorCategory,
) -> None:
    error = failure(category)
    assert not uses_attempt(error, is_common=True)
    assert not uses_attempt(error, was_answered=False)
    assert uses_attempt(error)


@pytest.mark.parametrize("category", ["validation", "content_filter", "invalid_request"])
def test_an_outage_excuses_no_answer_of_the_model(category: ErrorCategory) -> None:
    assert uses_attempt(failure(category), is_common=True, was_answered=False)


def test_some_broken_connections_cost_nothing_and_the_next_ones_may_be_the_slots_own_doing() -> (
    None
):
    lost = failure("server", link="lost")
    costs = [uses_attempt(lost, losses=losses) for losses in range(LOSSES_MOST + 2)]
    assert costs == [False] * LOSSES_MOST + [True] * 2


@pytest.mark.parametrize("category", COUNTED)
def test_a_slot_is_given_up_after_its_categorys_attempts(category: ErrorCategory) -> None:
    most = ATTEMPTS_MOST[category]
    for used in range(1, most):
        assert isinstance(after(failure(category), used), Retry)
    assert after(failure(category), most) is None


@pytest.mark.parametrize("category", COUNTED)
@pytest.mark.parametrize("most", [1, 2])
def test_the_batchs_own_bound_holds_too(category: ErrorCategory, most: int) -> None:
    assert after(failure(category), most, most=most) is None


@pytest.mark.parametrize("category", ["validation", "content_filter"])
def test_a_refused_answer_is_asked_for_again_at_once(category: ErrorCategory) -> None:
    assert after(failure(category), 1) == Retry(0.0)


@given(used=st.integers(1, 4), seed=st.integers(0, 1000))
def test_the_back_off_is_jittered_and_doubles_up_to_its_bound(used: int, seed: int) -> None:
    retry = after_failure(failure("server"), used, 20, random.Random(seed))
    assert retry is not None
    assert 0.1 <= retry.delay_s <= min(BACKOFF_MOST_S, 2 ** (used - 1))


def test_a_server_that_says_when_to_come_back_is_believed() -> None:
    assert after(failure("server", status=503, retry_after_s=7.0), 1) == Retry(7.0)


def test_only_an_answer_to_a_later_call_tells_a_slots_failure_from_an_outage() -> None:
    streak = Streak()
    assert not streak.note(started_at=10, now=11, answered_from=10)
    assert not streak.note(started_at=12, now=13, answered_from=11)
    assert streak.failures == 2
    assert streak.note(started_at=14, now=15, answered_from=13.5)
    assert streak.failures == 1
    assert Streak().note(started_at=10, now=12, answered_from=11)


def test_answers_that_take_longer_than_the_pause_between_failures_tell_them_apart_too() -> None:
    streak = Streak()
    assert not streak.note(started_at=10, now=11, answered_from=0)
    for again in (20, 30, 40):  # calls are under way all the time, for 35 s each
        assert not streak.note(started_at=again, now=again + 1, answered_from=again - 35)
    assert streak.note(started_at=50, now=51, answered_from=15)
    assert streak.failures == 1
    assert not streak.note(started_at=60, now=61, answered_from=25)


def verdict_on(*errors: CallFailedError, routes: int = 1, answered: bool = False) -> Verdict:
    verdict = Verdict(routes)
    if answered:
        verdict.note_success()
    for number, error in enumerate(errors):
        verdict.note_failure(error, float(number))
    return verdict


def is_over(verdict: Verdict, now: float = 0.0) -> bool:
    return verdict.hopeless(now, unanswered_s=30.0) is not None


@pytest.mark.parametrize("status", [307, 401, 402, 403, 404])
def test_a_first_answer_that_refuses_the_key_or_the_model_ends_the_batch(status: int) -> None:
    category: ErrorCategory = "invalid_request" if status in {307, 404} else "auth"
    error = failure(category, status=status)
    assert verdict_on(error).hopeless(0.0, 30.0) == (0, error)


def test_a_model_that_goes_away_ends_the_batch_and_single_refusals_between_answers_do_not() -> None:
    unknown, refused = (failure("invalid_request", status=status) for status in (404, 400))
    for error, most in ((unknown, 20), (refused, 100)):
        assert not is_over(verdict_on(*[error] * (most - 1), answered=True))
        assert is_over(verdict_on(*[error] * most, answered=True))
    verdict = verdict_on(answered=True)
    for number in range(1000):
        verdict.note_failure(refused if number % 2 else unknown, float(number))
        verdict.note_success()
    assert not is_over(verdict)


def test_once_a_call_was_answered_one_refusal_ends_nothing_but_three_of_the_key_do() -> None:
    assert not is_over(verdict_on(failure("invalid_request", status=404), answered=True))
    refused = failure("auth", status=401)
    assert [is_over(verdict_on(*[refused] * n, answered=True)) for n in (1, 2, 3)] == [
        False,
        False,
        True,
    ]


def test_bad_requests_end_a_batch_only_when_all_are_alike_from_the_first_on() -> None:
    error = failure("invalid_request", status=422)
    assert [is_over(verdict_on(*[error] * n)) for n in (4, 5)] == [False, True]
    assert not is_over(verdict_on(*[error] * 50, answered=True))


def test_pages_are_a_wrong_address_when_the_first_five_calls_get_one_and_an_outage_later() -> None:
    page = failure("invalid_request", status=200)
    assert [is_over(verdict_on(*[page] * n)) for n in (1, 4, 5)] == [False, False, True]
    fresh, proven = Verdict(2), verdict_on(answered=True, routes=2)
    fresh.judge(page, 0)
    proven.judge(page, 1)
    assert page.category == "invalid_request"
    proven.judge(page, 0)
    assert page.category == "server"


@pytest.mark.parametrize("other", ["server", "timeout", "rate_limit", "invalid_request"])
def test_refusals_of_the_key_count_only_in_a_row(other: ErrorCategory) -> None:
    refused = failure("auth", status=401)
    assert not is_over(verdict_on(*[refused, refused, failure(other)] * 10, answered=True))


@pytest.mark.parametrize("category", ["server", "timeout", "rate_limit", "validation"])
def test_what_may_pass_ends_no_batch_at_once(category: ErrorCategory) -> None:
    assert not is_over(verdict_on(*[failure(category, status=404)] * 20))


@pytest.mark.parametrize("category", OUTAGES)
def test_an_endpoint_that_never_answers_ends_the_batch_after_a_while(
    category: ErrorCategory,
) -> None:
    error = failure(category)
    verdict = verdict_on(error, error)
    assert not is_over(verdict, 29.9)
    assert verdict.hopeless(30.0, 30.0) == (0, error)
    assert not is_over(verdict_on(error, answered=True), 10**6)
    assert not is_over(verdict_on(error, failure("rate_limit", status=429)), 10**6)


def test_a_batch_goes_on_while_one_of_its_routes_may_answer() -> None:
    refused, unknown = failure("auth", status=401), failure("invalid_request", status=404)
    verdict = Verdict(2)
    verdict.note_failure(refused, 0.0, 0)
    assert not is_over(verdict)
    verdict.note_failure(unknown, 0.0, 1)
    assert verdict.hopeless(0.0, 30.0) == (1, unknown)
    assert [verdict.is_unknown(index) for index in (0, 1)] == [False, True]
    verdict.note_success(1)
    assert not is_over(verdict)


def test_a_key_that_was_refused_to_another_batch_is_wrong_unless_it_has_worked() -> None:
    refused = failure("auth", status=401)
    fresh, proven = Verdict(), verdict_on(answered=True)
    for verdict in (fresh, proven):
        verdict.note_refusal(refused, 0)
    assert (is_over(fresh), is_over(proven)) == (True, False)


def test_an_answer_on_another_node_takes_the_silence_back() -> None:
    verdict = verdict_on(failure("server"))
    verdict.note_success_elsewhere()
    assert not is_over(verdict, 10**6)
