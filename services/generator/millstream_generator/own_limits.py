"""How long a batch waits for a limit that its route has of its own, and for which.

A batch that a limit only slows down is not held up: one is whose next call starts seconds later.
"""

from dataclasses import dataclass

from millstream.domain import limits as rules
from millstream.runtime.clock import boot_seconds
from millstream_generator.gate import Gate
from millstream_generator.held import HeldBatch

HOLD_S = 5.0
"""A shorter wait for a turn is the pace of the route."""
TAKEN_S = 10.0
"""How long a note stands that all calls are taken: nobody knows when one of them ends."""


@dataclass(frozen=True, slots=True)
class OwnWait:
    """No call of a batch starts before ``until`` (the log's time) for this ``cause``."""

    until: float
    cause: str


def own_wait(gate: Gate, batch: HeldBatch) -> OwnWait | None:
    """Return what keeps a batch in line at ``gate``; None when none of its calls wait for long.

    Trouble of the route is told apart, and by all nodes alike.
    """
    condition, limits = gate.condition, gate.condition.limits
    if not limits.is_any or condition.trouble(may_probe=False) is not None:
        return None
    line = gate.line()
    place = next((at for at, waiter in enumerate(line) if waiter.batch_id == batch.batch_id), None)
    if place is None:
        return None
    now, share = condition.now(), rules.factor(condition.state, condition.now())
    until = gate.next_at + sum(
        max(
            rules.request_interval_s(limits),
            waiter.tokens * rules.token_interval_s(limits, waiter.tokens),
        )
        / share
        for waiter in line[:place]
    )
    if limits.is_paced and until >= now + HOLD_S:
        return OwnWait(until, _pace(limits, share))
    if limits.concurrency is not None and boot_seconds() - batch.called_at >= HOLD_S:
        most = max(1, int(limits.concurrency * share))
        taken = "the one call in flight that its limit allows is taken"
        if most > 1:
            taken = f"all {most} calls in flight that its limit allows are taken"
        return OwnWait(now + TAKEN_S, taken)
    return None


def _pace(limits: rules.Limits, share: float) -> str:
    paces = {"requests": limits.rpm, "tokens": limits.tpm}
    words = " and ".join(f"{pace:g} {name}" for name, pace in paces.items() if pace is not None)
    less = f", of which {share:.0%} after too many requests" if share < 1 else ""
    return f"its limit of {words} per minute{less}"
