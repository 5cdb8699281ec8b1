"""What follows from a failed attempt: try again, when, on which route, or give the slot up."""

import random
from dataclasses import dataclass

from millstream_generator.completion import CallFailedError
from millstream_schemas.errors import ErrorCategory

ATTEMPTS_MOST: dict[ErrorCategory, int] = {
    "rate_limit": 10**9,
    "timeout": 3,
    "auth": 1,
    "invalid_request": 1,
    "content_filter": 2,
    "server": 5,
    "validation": 3,
}
"""Attempts of a slot by the category of its last error; the batch's own bound holds too."""

BACKOFF_LEAST_S = 1.0
BACKOFF_MOST_S = 30.0
THROTTLE_MOST_S = 600.0
"""How long one slot waits for a provider that throttles, over all its waits."""

FATAL_STATUS = frozenset({401, 402, 403, 404})
SAME_ERRORS_FATAL = 5


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after ``delay_s`` seconds."""

    delay_s: float


def uses_attempt(category: ErrorCategory) -> bool:
    """Tell whether an error of this category uses an attempt up (waiting for a limit doesn't)."""
    return category != "rate_limit"


def after_failure(
    error: CallFailedError,
    attempts_used: int,
    max_attempts: int,
    throttled_s: float,
    chance: random.Random,
) -> Retry | None:
    """Return when to try again, None to give the slot up.

    Args:
        error: The failure.
        attempts_used: The slot's attempts, this one included.
        max_attempts: The batch's bound.
        throttled_s: How long the slot has waited for rate limits already.
        chance: The source of jitter (full jitter: any delay up to the back-off).
    """
    if error.category == "rate_limit":
        left_s = THROTTLE_MOST_S - throttled_s
        if left_s <= 0:
            return None
        # Without a Retry-After each wait is as long as all before it, so it doubles.
        own_s = min(BACKOFF_MOST_S, max(BACKOFF_LEAST_S, throttled_s))
        return Retry(min((error.retry_after_s or own_s) + chance.random(), left_s))
    if attempts_used >= min(max_attempts, ATTEMPTS_MOST[error.category]):
        return None
    if error.category in {"validation", "content_filter"}:
        return Retry(0.0)
    ceiling = min(BACKOFF_MOST_S, BACKOFF_LEAST_S * 2 ** (attempts_used - 1))
    return Retry(error.retry_after_s or chance.uniform(0.1, ceiling))


class Verdict:
    """Decides on one node when a batch can't succeed: wrong key, unknown model, bad request."""

    def __init__(self) -> None:
        self._succeeded = False
        self._alike = 0
        self._category: ErrorCategory | None = None

    @property
    def has_succeeded(self) -> bool:
        """Whether any call of the batch was answered on this node."""
        return self._succeeded

    def note_success(self) -> None:
        """A call was answered: the key and the model are right."""
        self._succeeded = True
        self._category = None

    def is_fatal(self, error: CallFailedError) -> bool:
        """Tell whether ``error`` ends the batch: nothing worked yet and nothing will."""
        self._alike = self._alike + 1 if error.category == self._category else 1
        self._category = error.category
        if error.category not in {"auth", "invalid_request"}:
            return False
        if not self._succeeded and error.status_code in FATAL_STATUS:
            return True
        needed = 3 if error.category == "auth" else SAME_ERRORS_FATAL
        return self._alike >= needed and (error.category == "auth" or not self._succeeded)
