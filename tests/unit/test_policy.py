"""What follows from a failed attempt."""

import random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream_generator.completion import CallFailedError
from millstream_generator.policy import (
    ATTEMPTS_MOST,
    BACKOFF_MOST_S,
    THROTTLE_MOST_S,
    Retry,
    Verdict,
    after_failure,
    uses_attempt,
)
from millstream_schemas.errors import ErrorCategory

CATEGORIES: tuple[ErrorCategory, ...] = get_args(ErrorCategory)
COUNTED = [category for category in CATEGORIES if category != "rate_limit"]


def failure(
    category: ErrorCategory, *, status: int | None = None, retry_after_s: float | None = None
) -> CallFailedError:
    return CallFailedError(category, "no answer", status_code=status, retry_after_s=retry_after_s)


def after(error: CallFailedError, used: int, *, most: int = 20, throttled_s: float = 0.0) -> object:
    return after_failure(error, used, most, throttled_s, random.Random(1))


def test_every_category_has_a_bound_and_only_a_rate_limit_uses_no_attempt() -> None:
    assert set(ATTEMPTS_MOST) == set(CATEGORIES)
    assert [category for category in CATEGORIES if not uses_attempt(category)] == ["rate_limit"]


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
    retry = after_failure(failure("server"), used, 20, 0.0, random.Random(seed))
    assert retry is not None
    assert 0.1 <= retry.delay_s <= min(BACKOFF_MOST_S, 2 ** (used - 1))


def test_a_server_that_says_when_to_come_back_is_believed() -> None:
    assert after(failure("server", status=503, retry_after_s=7.0), 1) == Retry(7.0)
    retry = after(failure("rate_limit", status=429, retry_after_s=7.0), 1)
    assert isinstance(retry, Retry)
    assert 7.0 <= retry.delay_s <= 8.0


@given(st.lists(st.none() | st.floats(0, 600), min_size=700, max_size=700), st.integers(0, 1000))
def test_a_slot_waits_for_rate_limits_for_ten_minutes_in_all(
    asked: list[float | None], seed: int
) -> None:
    chance = random.Random(seed)
    throttled_s = 0.0
    for retry_after_s in asked:
        error = failure("rate_limit", status=429, retry_after_s=retry_after_s)
        retry = after_failure(error, 0, 1, throttled_s, chance)
        if retry is None:
            break
        assert retry.delay_s > 0
        throttled_s += retry.delay_s
    assert throttled_s <= THROTTLE_MOST_S + 1e-6
    assert after_failure(failure("rate_limit"), 0, 1, THROTTLE_MOST_S, chance) is None


def test_a_limit_without_a_time_is_asked_about_ever_more_seldom() -> None:
    waits, throttled_s, chance = [], 0.0, random.Random(7)
    while (retry := after_failure(failure("rate_limit"), 0, 3, throttled_s, chance)) is not None:
        waits.append(retry.delay_s)
        throttled_s += retry.delay_s
    assert waits[0] <= 2.0
    assert max(waits) <= BACKOFF_MOST_S + 1.0
    assert len(waits) < 40


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_first_answer_that_refuses_the_key_or_the_model_ends_the_batch(status: int) -> None:
    category: ErrorCategory = "invalid_request" if status == 404 else "auth"
    assert Verdict().is_fatal(failure(category, status=status))


def test_once_a_call_was_answered_one_refusal_ends_nothing_but_three_of_the_key_do() -> None:
    verdict = Verdict()
    verdict.note_success()
    assert not verdict.is_fatal(failure("invalid_request", status=404))
    refused = [verdict.is_fatal(failure("auth", status=401)) for _ in range(3)]
    assert refused == [False, False, True]


def test_bad_requests_end_a_batch_only_when_all_are_alike_from_the_first_on() -> None:
    error = failure("invalid_request", status=422)
    verdict = Verdict()
    assert [verdict.is_fatal(error) for _ in range(5)] == [False] * 4 + [True]
    verdict = Verdict()
    verdict.note_success()
    assert not any(verdict.is_fatal(error) for _ in range(50))


@pytest.mark.parametrize("other", ["server", "timeout", "rate_limit", "invalid_request"])
def test_refusals_of_the_key_count_only_in_a_row(other: ErrorCategory) -> None:
    verdict = Verdict()
    verdict.note_success()
    for _ in range(10):
        assert not verdict.is_fatal(failure("auth", status=401))
        assert not verdict.is_fatal(failure("auth", status=401))
        assert not verdict.is_fatal(failure(other))


@pytest.mark.parametrize("category", ["server", "timeout", "rate_limit", "validation"])
def test_what_may_pass_ends_no_batch(category: ErrorCategory) -> None:
    verdict = Verdict()
    assert not any(verdict.is_fatal(failure(category, status=404)) for _ in range(20))
