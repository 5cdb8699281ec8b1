"""Cooldowns, the share of a throttled route, and the circuit breaker."""

import math

from hypothesis import given
from hypothesis import strategies as st

from millstream.domain import route_health as health
from millstream.domain.limits import OPEN_MOST_S, RouteState, rate, share, tried
from millstream.domain.pace import GROWTH_MOST, RATE_LEAST, SLOW_MOST_S
from millstream.domain.route_health import Outcomes

START = 1_767_225_600.0


def throttle(
    state: RouteState,
    now: float,
    *,
    started_at: float | None = None,
    asked: float | None = None,
    calls: int = 1,
) -> RouteState:
    return health.throttled(
        state,
        now,
        started_at=now if started_at is None else started_at,
        retry_after_s=asked,
        cause="too many",
        calls=calls,
        whole=float(calls),
    )


def answer(state: RouteState, started_at: float, *, now: float | None = None) -> RouteState:
    return health.answered(state, started_at if now is None else now, started_at=started_at)


def test_the_first_429_of_a_burst_cuts_the_pace_and_the_others_only_deepen_the_cut() -> None:
    state = throttle(RouteState(), START, started_at=START - 1, asked=20, calls=10)
    assert (rate(state, START), state.cooldown_until) == (5, START + 20)
    for late in (0.1, 5.0, 19.0):
        state = throttle(state, START + late, started_at=START - 0.5, asked=1)
        assert state.cooldown_until == START + 20
    assert rate(state, START + 20) == 5  # six of ten were taken
    longer = throttle(state, START + 1, started_at=START - 0.5, asked=60)
    assert longer.cooldown_until == START + 61
    for _ in range(9):
        longer = throttle(longer, START + 2, started_at=START - 0.5)
    assert rate(longer, START + 2) == 4  # no less is guessed


def test_a_limits_rate_is_what_its_route_is_cut_from() -> None:
    state = health.throttled(
        RouteState(), START, started_at=START, retry_after_s=None, cause="", calls=3, whole=10.0
    )
    assert (rate(state, START), share(state, START)) == (5, 0.5)


def test_without_a_time_the_pause_doubles_up_to_its_bound_and_starts_anew_after_calm() -> None:
    state, now, pauses = RouteState(), START, []
    for _ in range(11):
        state = throttle(state, now)
        pauses.append(max(0, state.cooldown_until - now))
        now = state.cooldown_until
    assert pauses == [1, 0, 0.25, 0.5, 1, 2, 4, 8, 16, 30, 30]
    now += health.CALM_S + 1
    assert throttle(state, now).cooldown_until == now + 1


def test_a_tiny_time_that_a_provider_names_is_believed_a_few_times_and_no_longer() -> None:
    state, now, pauses = RouteState(), START, []
    for _ in range(11):
        state = throttle(state, now, asked=0.001)
        pauses.append(round(state.cooldown_until - now, 3))
        now = state.cooldown_until
    assert pauses == [*[0.001] * 8, 16, 30, 30]
    assert state.cause == "too many, and refuses calls after that"
    believed = throttle(answer(state, now), now + 1, asked=0.001)
    assert (believed.cooldown_until, believed.cause) == (now + 1 + 0.001, "too many")
    assert throttle(state, now, asked=50).cooldown_until == now + 50


def test_few_429s_among_answers_are_counted_and_hold_nobody_up() -> None:
    state = throttle(RouteState(), START)
    for _ in range(9):  # a storm: each call after a cooldown is refused
        state = throttle(state, state.cooldown_until)
    assert state.backoff_s == 30
    now = state.cooldown_until + 5
    state = answer(tried(state, now, 30), now)
    assert answer(state, now + 1) is state  # the first one tells all
    for _ in range(3):
        state = throttle(state, now + 2)
        assert state.cooldown_until < now
    again = throttle(state, now + 2)
    assert again.cooldown_until == now + 2 + health.BACKOFF_LEAST_S
    at = again.cooldown_until
    for _ in range(20):  # none is answered any more
        at = again.cooldown_until + 0.1
        again = throttle(again, at)
    assert again.cooldown_until == at + 30


def test_a_429_whose_provider_names_a_time_holds_all_up_however_few_there_are() -> None:
    state = answer(tried(throttle(RouteState(), START), START + 5, 100), START + 5)
    assert throttle(state, START + 6, asked=9).cooldown_until == START + 15


def test_an_answer_means_nothing_to_a_route_that_was_never_throttled() -> None:
    assert answer(RouteState(), START) == RouteState()


def storm(*, asked: float | None = None) -> RouteState:
    """Return the state a second after the last one of 429s that doubled the pause to 16 s."""
    state = throttle(RouteState(), START)
    for _ in range(7):
        state = throttle(state, state.cooldown_until)
    return throttle(state, state.cooldown_until + 1, asked=asked)


def test_an_answer_to_a_call_from_before_a_429_cuts_a_pause_short_that_nobody_asked_for() -> None:
    """However long ago that call started: it may have left the place that the next one needs."""
    state = storm()
    cut_at = state.cooldown_until - 16
    for ago in (0.5, 600.0):
        started_at, now = cut_at - ago, cut_at + 4
        sooner = answer(state, started_at, now=now)
        assert sooner.cooldown_until == now + health.BACKOFF_LEAST_S
        assert answer(sooner, started_at, now=now + 0.1) is sooner  # the first one tells all
        burst = throttle(sooner, now + 0.1, started_at=started_at)  # its last ones
        assert burst.cooldown_until == sooner.cooldown_until
        after = sooner.cooldown_until
        assert throttle(sooner, after).cooldown_until == after + 2 * health.BACKOFF_LEAST_S
    assert throttle(state, state.cooldown_until).backoff_s == 30


def test_no_answer_cuts_short_what_a_provider_asked_for() -> None:
    state = storm(asked=20)
    started_at = state.cooldown_until - 21
    now = started_at + 5
    assert answer(state, started_at, now=now) is state
    guessed = storm()
    started_at = guessed.cooldown_until - 16.5
    now = started_at + 4.5
    asked = throttle(guessed, now - 1, started_at=started_at, asked=8)  # ends before the pause
    assert asked.cooldown_until == guessed.cooldown_until
    assert answer(asked, started_at, now=now).cooldown_until == now + 7
    longer = throttle(guessed, now - 1, started_at=started_at, asked=60)
    assert answer(longer, started_at, now=now) is longer


def test_a_document_of_an_older_version_is_read_as_one_without_a_pace() -> None:
    old = '{"cooldown_until": 9.0, "factor": 0.5, "factor_at": 8.0, "freed_at": 1.0}'
    assert RouteState.model_validate_json(old) == RouteState(cooldown_until=9.0)


@given(st.lists(st.tuples(st.floats(0, 90), st.none() | st.floats(0, 700)), max_size=60))
def test_a_storm_of_429_never_stops_a_route_for_good(storm: list[tuple[float, float]]) -> None:
    state, now = RouteState(), START
    for gap, asked in storm:
        now += gap
        state = throttle(state, now, started_at=now - gap / 2, asked=asked)
        assert state.cooldown_until <= now + 600
        assert rate(state, now) >= RATE_LEAST
    assert math.isinf(rate(state, state.cooldown_until + GROWTH_MOST * SLOW_MOST_S))


def opened(now: float = START, state: RouteState | None = None) -> RouteState:
    return health.opened(state or RouteState(), now, failures=5, message="refused", first_s=1.5)


def test_exactly_one_node_probes_an_open_circuit_when_its_pause_is_over() -> None:
    state = opened()
    assert not health.may_probe(state, "a", START + 1.4)
    assert health.probing(state, "a", START + 1.4) is state
    taken = health.probing(state, "a", START + 1.5)
    assert health.may_probe(taken, "a", START + 2)
    assert not health.may_probe(taken, "b", START + 2)
    assert health.probing(taken, "b", START + 2) is taken
    died = START + 2 + health.PROBE_S
    assert health.may_probe(taken, "b", died)
    assert not health.may_probe(health.probing(taken, "a", START + 9), "b", died)


def test_a_failed_probe_doubles_the_pause_up_to_five_minutes_and_only_its_node_may_say_so() -> None:
    state, now, pauses = opened(), START, []
    for _ in range(10):
        assert state.breaker is not None
        pauses.append(state.breaker.backoff_s)
        now = state.breaker.open_until
        state = health.probing(state, "a", now)
        assert health.probe_failed(state, "b", now, "no") is state
        state = health.probe_failed(state, "a", now, "still refused")
    assert pauses == [1.5, 3, 6, 12, 24, 48, 96, 192, 300, 300]
    assert state.breaker is not None
    assert (state.breaker.failures, state.breaker.message) == (15, "still refused")


def test_an_answered_probe_closes_the_circuit_and_a_cancelled_one_leaves_it_to_the_next() -> None:
    state = health.probing(opened(), "a", START + 2)
    dropped = health.probe_dropped(state, "a")
    assert health.may_probe(dropped, "b", START + 2)
    assert health.probe_dropped(state, "b") is state
    assert health.closed(state, START + 3).breaker is None


def test_an_open_circuit_stays_as_it_is_when_calls_from_before_fail() -> None:
    state = opened()
    assert opened(START + 1, state) is state


def test_a_relapse_goes_on_with_longer_pauses() -> None:
    state = health.probing(opened(), "a", START + 2)
    state = health.probe_failed(state, "a", START + 2, "no")
    state = health.closed(state, START + 10)
    soon, late = opened(START + 12, state), opened(START + 100, state)
    assert soon.breaker is not None
    assert late.breaker is not None
    assert (soon.breaker.backoff_s, late.breaker.backoff_s) == (6.0, 1.5)


def test_five_failures_in_a_row_open_a_circuit_and_a_success_between_does_not_let_them() -> None:
    row = Outcomes()
    for _ in range(4):
        row = row.after(START, failed=True)
    assert not row.trips(START)
    assert row.after(START, failed=True).trips(START) == "5 calls in a row failed"
    assert not row.after(START, failed=False).after(START, failed=True).trips(START)


def test_half_of_the_last_twenty_failing_within_thirty_seconds_opens_a_circuit() -> None:
    mixed = Outcomes()
    for index in range(20):
        mixed = mixed.after(START + index, failed=index % 2 == 0)
    assert mixed.trips(START + 19) == "10 of the last 20 calls failed"
    assert not mixed.trips(START + 60)


@given(st.lists(st.booleans(), max_size=80))
def test_successes_before_the_first_failure_cost_nothing_and_few_failures_open_nothing(
    calls: list[bool],
) -> None:
    seen = Outcomes()
    for index, failed in enumerate(calls):
        before = seen
        seen = seen.after(START + index, failed=failed)
        if not failed and not before.recent:
            assert seen is before
    last = calls[-20:]
    if sum(last) < 5:
        assert not seen.trips(START + len(calls))


events = st.lists(
    st.tuples(
        st.floats(0, 40),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["fail", "probe", "probe_failed", "answered", "drop"]),
    ),
    max_size=60,
)


@given(events)
def test_any_history_leaves_a_circuit_that_some_node_can_close(
    history: list[tuple[float, str, str]],
) -> None:
    state, now = RouteState(), START
    for gap, node, what in history:
        now += gap
        match what:
            case "fail":
                state = opened(now, state)
            case "probe":
                state = health.probing(state, node, now)
            case "probe_failed":
                state = health.probe_failed(state, node, now, "no")
            case "answered":
                state = health.closed(state, now)
            case _:
                state = health.probe_dropped(state, node)
        if state.breaker is not None:
            assert state.breaker.open_until <= now + OPEN_MOST_S
            later = max(state.breaker.open_until, state.breaker.probe_until, now)
            assert health.may_probe(state, "c", later)
