"""What all nodes may ask of one route together: its shared state, and the due times of its calls.

Pure: every function takes the state and the present time and returns the next state. All times
are seconds of one clock, the log's, which every node measures its own clock against.

The pace is GCRA (the generic cell rate algorithm) without burst: calls have due times one
interval apart, and a node leases some of the next due times at once. A call that starts late,
travels slowly or reads the clock a little off must not push a window over its limit, so the
interval counts on windows of ``WINDOW_S + SLACK_S``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from millstream.domain import pace as learned
from millstream.domain import permits as sharing
from millstream.domain.pace import Pace
from millstream.domain.permits import SKEW_MOST_S, Permit
from millstream_schemas.envelope import Contract

WINDOW_S = 60.0
LATE_MOST_S = 0.25
"""A leased call that would start later than this after its due time is not made."""
SLACK_S = 2 * LATE_MOST_S
"""Lateness, and as much again for the way to the provider and for differing clocks."""
LEAD_S = 0.5
"""How long before the first due time a lease may be taken."""
CHUNK_S = 1.0
"""How far apart the first and the last due time of one lease may be."""
AHEAD_S = 0.05
"""A lease takes this long to be stored, so nothing is due earlier."""
REFUND_MOST_S = 600.0
COOLDOWN_MOST_S = 600.0
OPEN_MOST_S = 300.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a route's provider allows; None: no limit."""

    rpm: float | None = None
    tpm: float | None = None
    concurrency: int | None = None

    @property
    def is_any(self) -> bool:
        """Whether there is any limit."""
        return (self.rpm, self.tpm, self.concurrency) != (None, None, None)

    @property
    def is_paced(self) -> bool:
        """Whether calls have due times."""
        return self.rpm is not None or self.tpm is not None

    def shared_by(self, nodes: int) -> "Limits":
        """Return one node's part of the limits, for when nodes can't agree."""
        most = self.concurrency
        return Limits(
            None if self.rpm is None else self.rpm / nodes,
            None if self.tpm is None else self.tpm / nodes,
            None if most is None else max(1, most // nodes),
        )


class Breaker(Contract):
    """An open circuit: no call starts but one probe at a time, from ``open_until`` on."""

    open_until: float
    backoff_s: float
    failures: int = 0
    message: str = ""
    probe_by: str = ""
    probe_until: float = 0.0


class RouteState(Contract):
    """What the nodes know together about one route; one document in the limits bucket.

    ``requested_at`` is the last due time that was given away, ``reserved_at`` that of the last
    token reservation, which takes ``reserved_s`` seconds. ``asked_until`` is the latest time that a
    provider named in the last cooldown's burst, ``answered_at`` the start of a call that was
    answered after it. ``pace`` is what refusals have taught.
    """

    requested_at: float = 0.0
    reserved_at: float = 0.0
    reserved_s: float = 0.0
    permits: dict[str, Permit] = {}
    cooldown_until: float = 0.0
    asked_until: float = 0.0
    backoff_s: float = 0.0
    answered_at: float = 0.0
    cause: str = ""
    pace: Pace | None = None
    breaker: Breaker | None = None
    closed_at: float = 0.0
    closed_backoff_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Slot:
    """Leave to start one call at ``due_at``, with ``tokens`` reserved for it."""

    due_at: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Lease:
    """What a node got: slots to start calls in, and when asking again makes sense."""

    slots: tuple[Slot, ...]
    ask_at: float


def rate(state: RouteState, now: float) -> float:
    """Return how many calls a second refusals have left at ``now``; infinite: any number."""
    return learned.rate(state.pace, now, state.cooldown_until)


def cut_at(state: RouteState) -> float:
    """Return when refusals last cut the rate; 0: never."""
    return 0.0 if state.pace is None else state.pace.cut_at


def tried(state: RouteState, now: float, calls: int) -> RouteState:
    """Return the state after a node told of calls that it started at the learned rate."""
    if state.pace is None or not calls:
        return state
    pace = learned.tried(state.pace, calls, rate(state, now))
    return state.model_copy(update={"pace": pace})


def part(state: RouteState, nodes: int) -> RouteState:
    """Return the state with one node's part of the learned rate, for when nodes can't agree."""
    if state.pace is None:
        return state
    rate_left = max(learned.RATE_LEAST, state.pace.rate / nodes)
    return state.model_copy(update={"pace": state.pace.model_copy(update={"rate": rate_left})})


def share(state: RouteState, now: float) -> float:
    """Return the share (0..1) of its usual rate that a throttled route is given at ``now``."""
    return 1.0 if state.pace is None else min(1.0, rate(state, now) / state.pace.whole)


def is_paced(state: RouteState, limits: Limits, now: float) -> bool:
    """Tell whether calls have due times: by the route's limits, or since some were refused."""
    return limits.is_paced or not math.isinf(rate(state, now))


def most_calls(state: RouteState, limits: Limits, node: str, now: float) -> int:
    """Return how many calls may be in flight at ``now``: permits that all nodes share."""
    return sharing.lowest(state.permits, node, now, limit=limits.concurrency or 0)


def sound(state: RouteState, now: float) -> RouteState:
    """Return the state without times that lie further ahead than any rule puts them."""
    most = now + SKEW_MOST_S
    breaker = state.breaker
    if breaker is not None and breaker.open_until > most + OPEN_MOST_S:
        breaker = breaker.model_copy(update={"open_until": now, "probe_until": 0.0})
    if (
        breaker is state.breaker
        and state.requested_at <= most
        and state.reserved_at <= most
        and (state.pace is None or state.pace.cut_at <= most)
        and state.answered_at <= most
        and state.cooldown_until <= most + COOLDOWN_MOST_S
    ):
        return state
    return state.model_copy(
        update={
            "requested_at": min(state.requested_at, now),
            "reserved_at": min(state.reserved_at, now),
            "pace": None if state.pace is None else learned.put_to(state.pace, now),
            "answered_at": min(state.answered_at, now),
            "cooldown_until": min(state.cooldown_until, now),
            "breaker": breaker,
        }
    )


def lease(
    state: RouteState,
    node: str,
    now: float,
    limits: Limits,
    *,
    wanted: Sequence[int],
    in_flight: int = 0,
    ahead_s: float = AHEAD_S,
    calls_s: float = 0.0,
) -> tuple[RouteState, Lease]:
    """Give ``node`` the next due times, as many as it has permits for, and tell what it wants.

    A route without a pace has no due times: there a permit is leave to call.

    Args:
        state: What all nodes know.
        node: Who asks.
        now: The present.
        limits: The route's limits.
        wanted: The tokens that each waiting call reserves, in their order.
        in_flight: Calls of this node on the route that run now.
        ahead_s: How long the lease takes to be stored.
        calls_s: How long its calls take.
    """
    state = sound(state, now)
    free = len(wanted)
    if limits.concurrency is not None:
        permits = sharing.asked(
            state.permits,
            node,
            now,
            most=most_calls(state, limits, node, now),
            used=in_flight,
            wanted=in_flight + len(wanted),
            limit=limits.concurrency,
            calls_s=calls_s,
        )
        free = permits[node].held - in_flight if node in permits else 0
        state = state.model_copy(update={"permits": permits})
    held_until = max(state.cooldown_until, state.breaker.open_until if state.breaker else 0.0)
    if state.breaker is not None or held_until > now:
        return state, Lease((), max(held_until, now))
    if not is_paced(state, limits, now):
        return state, Lease((), now + CHUNK_S)
    return _paced(state, now, limits, wanted[:free], ahead_s)


def _paced(
    state: RouteState, now: float, limits: Limits, wanted: Sequence[int], ahead_s: float
) -> tuple[RouteState, Lease]:
    earliest = now + ahead_s
    slots: list[Slot] = []
    due_at = _next_due(state, limits, now)
    for tokens in wanted:
        at = max(due_at, earliest)
        if at > (slots[0].due_at + CHUNK_S if slots else earliest + LEAD_S):
            break
        slots.append(Slot(at, tokens))
        state = state.model_copy(
            update={
                "requested_at": at,
                "reserved_at": at,
                "reserved_s": tokens * token_interval_s(limits, tokens),
            }
        )
        due_at = _next_due(state, limits, now)
    return state, Lease(tuple(slots), due_at - LEAD_S)


def request_interval_s(limits: Limits) -> float:
    """Return the seconds between two due times, such that no window holds more than allowed."""
    # The last factor: points that far apart are never one more than fit, rounding included.
    return 0.0 if limits.rpm is None else (WINDOW_S + SLACK_S) / limits.rpm * (1 + 1e-6)


def token_interval_s(limits: Limits, tokens: int) -> float:
    """Return the seconds that one token of a reservation of ``tokens`` takes.

    A window ends with a whole reservation whose time lies outside it, so only the rest of the
    limit is spread; a reservation of more than half the limit is spread over the half.
    """
    if limits.tpm is None:
        return 0.0
    return (WINDOW_S + SLACK_S) / max(limits.tpm - tokens, limits.tpm / 2)


def next_dues(state: RouteState, limits: Limits, now: float) -> tuple[float, float]:
    """Return when the next call may start by the rate of requests, and by that of tokens; 0: any.

    What is past lets nobody wait.
    """
    interval_s = max(request_interval_s(limits), 1 / rate(state, now))
    return (
        state.requested_at + interval_s if interval_s else 0.0,
        state.reserved_at + state.reserved_s if limits.tpm is not None else 0.0,
    )


def _next_due(state: RouteState, limits: Limits, now: float) -> float:
    return max(next_dues(state, limits, now))


def settled(state: RouteState, limits: Limits, unused: int, reserved: int) -> RouteState:
    """Return the state after a call used ``unused`` tokens less (or, below 0, more) than reserved.

    What is given back shortens the wait that is due now; it never makes room in the past.
    """
    seconds = unused * token_interval_s(limits, reserved)
    left_s = min(max(0.0, state.reserved_s - seconds), REFUND_MOST_S)
    return state.model_copy(update={"reserved_s": left_s})
