"""When a delivery is tried again, and when it is given up."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal

from millstream_api.webhooks.messages import Due
from millstream_api.webhooks.sending import Attempt
from millstream_schemas.webhooks import Delivery

PAUSE_LEAST_S = 1.0
PAUSE_MOST_S = 600.0
ATTEMPTS_LEAST = 5
KEPT = timedelta(hours=24)
PASSING = frozenset({408, 409, 425, 429})
"""Refusals (4xx) that may be over by the next attempt."""


def settled(
    before: Delivery | None,
    due: Due,
    message_id: str,
    attempt: Attempt,
    *,
    now: datetime,
    chance: Callable[[], float],
) -> Delivery:
    """Return the delivery after an attempt; ``before`` is it after the attempt before.

    The pause doubles from 1 s to 10 min, or is what the receiver asks for, and half of it is left
    to ``chance`` (0..1). After five attempts a message is given up that the receiver refuses as
    such, or that tells an event of more than a day ago.
    """
    attempts = before.attempts + 1 if before is not None else 1
    state: Literal["delivered", "retrying", "given_up"] = "delivered"
    next_at: datetime | None = None
    if not attempt.is_taken:
        is_hopeless = _is_refused(attempt.status) or now - due.message.timestamp >= KEPT
        if attempts >= ATTEMPTS_LEAST and is_hopeless:
            state = "given_up"
        else:
            state = "retrying"
            pause_s = max(_pause_s(attempts, chance), attempt.retry_after_s)
            next_at = now + timedelta(seconds=pause_s)
    return Delivery(
        id=message_id,
        sequence=due.sequence,
        type=due.message.type,
        batch_id=due.batch_id,
        state=state,
        attempts=attempts,
        first_at=before.first_at if before is not None else now,
        last_at=now,
        next_at=next_at,
        status=attempt.status,
        error=attempt.error,
        latency_ms=attempt.latency_ms,
    )


def _pause_s(attempts: int, chance: Callable[[], float]) -> float:
    whole: float = min(PAUSE_MOST_S, PAUSE_LEAST_S * 2 ** min(attempts - 1, 20))
    return whole * (0.5 + chance() / 2)


def _is_refused(status: int | None) -> bool:
    return status is not None and 400 <= status < 500 and status not in PASSING
