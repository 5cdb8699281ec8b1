"""How long batches wait for the pace that a route has of its own (``rpm``, ``tpm``), and for which.

A batch that a limit only slows down is not held up: one is whose next call starts seconds later.
Nobody knows when one of the calls ends that a limit of calls in flight waits for, nor whether they
are this batch's, so a wait for that one is none of these: ``limited`` tells of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from millstream.domain import limits as rules
from millstream.domain.recorded import Recorded
from millstream.eventlog.limits import LogClock
from millstream.runtime.clock import boot_seconds
from millstream_generator.gate import Gate
from millstream_generator.turns import Waiter
from millstream_generator.waits import APART
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.notes import RouteThrottled

HOLD_S = 5.0
"""A batch without a call for a shorter time has met no more than the pace of the route."""
STORED_S = 1.0
"""What a note tells of a route is stored for all nodes within this time."""


@dataclass(frozen=True, slots=True)
class OwnWait:
    """No call of a batch starts before ``until`` (the log's time) for this ``cause``.

    ``since`` is when the first of its calls got in line, by this machine's clock.
    """

    since: float
    until: float
    cause: str


def own_waits(gate: Gate) -> dict[str, OwnWait]:
    """Return what the first call in line of each batch waits for, by batch, in one walk.

    Trouble of the route is told apart, and by all nodes alike.
    """
    condition, limits = gate.condition, gate.condition.limits
    own = condition.state.permits.get(condition.node)
    if not limits.is_paced or (own is not None and own.held <= gate.in_flight):
        return {}
    if condition.trouble(may_probe=False) is not None:
        return {}
    cause = _pace(limits, rules.share(condition.state, condition.now()))
    waits: dict[str, OwnWait] = {}
    for waiter, due_at in due_times(gate):
        if waiter.batch_id not in waits:
            waits[waiter.batch_id] = OwnWait(waiter.queued_at, due_at, cause)
    return waits


def due_times(gate: Gate) -> Iterator[tuple[Waiter, float]]:
    """Yield each call in line with when, by the pace of its route, it starts (the log's time)."""
    condition, limits = gate.condition, gate.condition.limits
    due_at, left_s = gate.next_at, 1 / rules.rate(condition.state, condition.now())
    request_s = max(left_s, rules.request_interval_s(limits))
    for waiter in gate.line.waiting():
        yield waiter, due_at
        tokens_s = waiter.tokens * rules.token_interval_s(limits, waiter.tokens)
        due_at += max(request_s, tokens_s)


def is_limited(gates: Sequence[Gate]) -> bool:
    """Tell whether any of a batch's routes has a pace that the batch may wait for."""
    return any(gate.condition.limits.is_paced for gate in gates)


def is_outrun(last: Recorded[BatchEvent], gates: Sequence[Gate], clock: LogClock) -> bool:
    """Tell whether a batch whose last note this is waits for a pace, though it makes calls here.

    A route in trouble is another matter: calls that were in flight prove nothing there. Whether it
    is must be known from after the note, which comes before what it tells of is stored.
    """
    event = last.event
    if not isinstance(event, RouteThrottled) or event.until <= clock.at(clock.now()) + APART:
        return False
    named = [gate.condition for gate in gates if gate.condition.model == event.model]
    for condition in named:
        known_s = clock.now() - (boot_seconds() - condition.read_at) - last.stored_at.timestamp()
        if known_s < STORED_S or condition.trouble(may_probe=False) is not None:
            return False
    return bool(named)


def _pace(limits: rules.Limits, share: float) -> str:
    paces = {"requests": limits.rpm, "tokens": limits.tpm}
    words = " and ".join(f"{pace:g} {name}" for name, pace in paces.items() if pace is not None)
    less = f", of which {share:.0%} after too many requests" if share < 1 else ""
    return f"its limit of {words} per minute{less}"
