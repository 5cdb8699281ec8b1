"""How failing calls change what all nodes may ask of a route: cooldowns, pace, circuit breaker.

Pure, as ``limits``. Refusals (429) cut the pace that ``pace`` learns. A circuit opens when calls
fail one after the other; single probes, ever further apart, find out when it may close.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from millstream.domain import pace as paces
from millstream.domain.limits import COOLDOWN_MOST_S, OPEN_MOST_S, Breaker, RouteState, rate

BACKOFF_LEAST_S = 0.25
"""The cooldown after a 429 that comes while others are answered: most calls may go on."""
BACKOFF_FIRST_S = 1.0
"""The one after a 429 of a route of which nothing is known."""
BACKOFF_MOST_S = 30.0
BELIEVED_S = 8.0
"""A provider's own time is no longer enough where the back-off has grown beyond this."""
OUT_S = 4.0
"""A provider that still refuses all after such a cooldown is out; its pace is another matter."""
CALM_S = 60.0
"""After so long without a 429 the next one counts as the first."""
LONGER_LEAST_S = 1.0
"""The answers of one burst come apart: a cooldown is not made longer by less."""
FAILURES_IN_A_ROW = 5
RECENT = 20
RECENT_S = 30.0
PROBE_S = 10.0
"""A probe that its node does not renew for so long has died with it."""
RELAPSE_S = 30.0
"""A circuit that opens again so soon after it closed goes on with its longer pauses."""


def throttled(
    state: RouteState,
    now: float,
    *,
    started_at: float,
    retry_after_s: float | None,
    cause: str,
    calls: int = 1,
    whole: float = 1.0,
) -> RouteState:
    """Return the state after a provider answered 429 to a call that started at ``started_at``.

    While few calls of a pace that was learned are refused, and no time is named, they are counted
    and no more. Else one burst is one cut: a call that had started before the last cooldown was
    over only deepens it, and lengthens the cooldown when the provider named a longer one. Where it
    names none, a cooldown is twice as long as the last one as long as no call after that was
    answered. A time that it names is believed a few times in a row, and then only where it is
    longer: a provider may name a millisecond and refuse everything.

    Args:
        state: What all nodes know.
        now: The present.
        started_at: When the call started.
        retry_after_s: The time that the provider named.
        cause: What to tell of the wait.
        calls: How many calls the node had in flight, this one included.
        whole: The rate that the route has had until now, as far as the node can tell.
    """
    asked_s = min(retry_after_s or 0.0, COOLDOWN_MOST_S)
    asked_until = now + asked_s if asked_s else 0.0
    if started_at < state.cooldown_until:
        return _after_burst(state, asked_until, cause)
    rate_now = rate(state, now)
    if state.pace is None or math.isinf(rate_now):
        pace, is_calm = paces.first(calls, whole, now), is_answering(state)
    else:
        # A call from after the cut may be refused before anybody has told that it was made.
        pace = paces.tried(state.pace, 1, rate_now) if state.pace.is_cut else state.pace
        pace = paces.refused(pace)
        is_calm = is_answering(state) or not paces.is_storm(pace)
        if is_calm and not asked_s and paces.is_tolerable(pace):
            return state.model_copy(update={"pace": pace})
        is_out = not is_calm and (not pace.is_guess or state.backoff_s >= OUT_S)
        pace = paces.cut(pace, now, rate_now, is_out=is_out)
    backoff_s = BACKOFF_LEAST_S if is_calm else _longer_s(state, now)
    pause_s = _pause_s(asked_s, backoff_s)
    update = {
        "cooldown_until": max(now + pause_s, state.cooldown_until),
        "asked_until": asked_until,
        "backoff_s": backoff_s,
        "pace": pace,
        "cause": f"{cause}, and refuses calls after that" if pause_s > asked_s > 0 else cause,
    }
    return state.model_copy(update=update)


def _pause_s(asked_s: float, backoff_s: float) -> float:
    if asked_s and backoff_s <= BELIEVED_S:
        return asked_s
    return max(asked_s, backoff_s)


def _after_burst(state: RouteState, asked_until: float, cause: str) -> RouteState:
    """Return the state after a 429 to a call from before the last cooldown was over."""
    update: dict[str, object] = {}
    if state.pace is not None and state.pace.is_cut:
        update["pace"] = paces.deepened(state.pace)
    if asked_until >= state.cooldown_until + LONGER_LEAST_S:
        update |= {"cooldown_until": asked_until, "cause": cause}
    if asked_until >= state.asked_until + LONGER_LEAST_S:
        update["asked_until"] = asked_until
    return state.model_copy(update=update) if update else state


def _longer_s(state: RouteState, now: float) -> float:
    if now - state.cooldown_until > CALM_S:
        return BACKOFF_FIRST_S
    return min(BACKOFF_MOST_S, max(BACKOFF_LEAST_S, 2 * state.backoff_s))


def is_answering(state: RouteState) -> bool:
    """Tell whether a call was answered that started after the last cooldown."""
    return state.answered_at >= max(state.cooldown_until, 1.0)


def answered(state: RouteState, now: float, *, started_at: float) -> RouteState:
    """Return the state after a call that started at ``started_at`` was answered.

    One from before a cooldown may have left the place that the next call needs: what is left of a
    cooldown that nobody asked for is cut short.
    """
    if state.backoff_s == 0 or is_answering(state):
        return state
    if started_at >= state.cooldown_until:
        return state.model_copy(update={"answered_at": started_at})
    until = max(now + BACKOFF_LEAST_S, state.asked_until)
    if until >= state.cooldown_until:
        return state
    return state.model_copy(update={"cooldown_until": until, "backoff_s": BACKOFF_LEAST_S})


def opened(
    state: RouteState, now: float, *, failures: int, message: str, first_s: float
) -> RouteState:
    """Return the state with the circuit open; one that is open already stays as it is."""
    if state.breaker is not None:
        return state
    is_relapse = now - state.closed_at < RELAPSE_S
    backoff_s = max(first_s, min(OPEN_MOST_S, 2 * state.closed_backoff_s) if is_relapse else 0.0)
    breaker = Breaker(
        open_until=now + backoff_s, backoff_s=backoff_s, failures=failures, message=message
    )
    return state.model_copy(update={"breaker": breaker})


def may_probe(state: RouteState, node: str, now: float) -> bool:
    """Tell whether ``node`` may try the route with one call now."""
    breaker = state.breaker
    return (
        breaker is not None
        and now >= breaker.open_until
        and (breaker.probe_by in {"", node} or now >= breaker.probe_until)
    )


def probing(state: RouteState, node: str, now: float) -> RouteState:
    """Return the state in which ``node`` probes, or goes on probing; else the state as it is."""
    if state.breaker is None or not may_probe(state, node, now):
        return state
    update = {"probe_by": node, "probe_until": now + PROBE_S}
    return state.model_copy(update={"breaker": state.breaker.model_copy(update=update)})


def probe_failed(state: RouteState, node: str, now: float, message: str) -> RouteState:
    """Return the state after ``node``'s probe failed: the next one comes after twice the pause."""
    breaker = state.breaker
    if breaker is None or breaker.probe_by != node:
        return state
    backoff_s = min(OPEN_MOST_S, 2 * breaker.backoff_s)
    again = Breaker(
        open_until=now + backoff_s,
        backoff_s=backoff_s,
        failures=breaker.failures + 1,
        message=message,
    )
    return state.model_copy(update={"breaker": again})


def failed_probes(state: RouteState, first_s: float) -> float:
    """Return how many probes of an open circuit have failed, those before its relapses too."""
    breaker = state.breaker
    if breaker is None or not breaker.backoff_s:  # no pause is known: none was doubled
        return 0.0
    return math.log2(breaker.backoff_s / first_s)


def probe_dropped(state: RouteState, node: str) -> RouteState:
    """Return the state after ``node``'s probe was cancelled: anybody may probe at once."""
    if state.breaker is None or state.breaker.probe_by != node:
        return state
    update = {"probe_by": "", "probe_until": 0.0}
    return state.model_copy(update={"breaker": state.breaker.model_copy(update=update)})


def closed(state: RouteState, now: float) -> RouteState:
    """Return the state after a call through an open circuit was answered."""
    if state.breaker is None:
        return state
    update = {"breaker": None, "closed_at": now, "closed_backoff_s": state.breaker.backoff_s}
    return state.model_copy(update=update)


class _Outcome(NamedTuple):
    at: float
    failed: bool


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The last outcomes of one node's calls on a route: do they open the circuit?"""

    in_a_row: int = 0
    recent: tuple[_Outcome, ...] = ()

    def after(self, now: float, *, failed: bool) -> "Outcomes":
        """Return the outcomes with one more; successes count once there was a failure."""
        if not failed and not self.recent:
            return self
        recent = (*self.recent, _Outcome(now, failed))[-RECENT:]
        if not failed and not any(outcome.failed for outcome in recent):
            return Outcomes()
        return Outcomes(self.in_a_row + 1 if failed else 0, recent)

    def trips(self, now: float) -> str:
        """Return why the circuit opens, in words; empty while it need not."""
        if self.in_a_row >= FAILURES_IN_A_ROW:
            return f"{self.in_a_row} calls in a row failed"
        fresh = [outcome for outcome in self.recent if now - outcome.at <= RECENT_S]
        failures = sum(outcome.failed for outcome in fresh)
        if len(fresh) >= RECENT and 2 * failures >= RECENT:
            return f"{failures} of the last {RECENT} calls failed"
        return ""
