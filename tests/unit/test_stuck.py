"""The stuck rule: what counts as stuck, from when on, and what it says."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from millstream.domain.recorded import Recorded
from millstream.domain.stuck import find_stuck, moved_at, threshold_s
from millstream.domain.surroundings import Surroundings
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream_schemas.control import BatchStarted, Budgets
from millstream_schemas.notes import RouteThrottled, StuckFinding
from millstream_schemas.slices import SampleAttemptFailed, SliceClaimed


def around(script: Script, seconds: float = 0.0, **fields: object) -> Surroundings:
    """What a watchdog knows ``seconds`` after the script's last event, with one live node."""
    moves = [moment for item in script.tape.recorded if (moment := moved_at(item))]
    usual = Surroundings(
        now=script.tape.now + timedelta(seconds=seconds),
        moved_at=max(moves, default=None),
        live_nodes=1,
        nodeless_since=None,
        latency_p95_s=None,
        floor_s=30.0,
    )
    return replace(usual, **fields)  # type: ignore[arg-type]  # fields are named by each test


def working() -> Script:
    script = Script(spec=example_spec(8, slice_size=4))
    script.start()
    script.claim(0)
    script.generate(0)
    return script


def found(script: Script, surroundings: Surroundings) -> StuckFinding:
    finding = find_stuck(script.state, surroundings)
    assert finding is not None
    return finding


def test_a_batch_that_just_moved_is_not_stuck() -> None:
    script = working()
    assert find_stuck(script.state, around(script, 29.9)) is None


def test_no_outcome_for_the_threshold_is_no_progress() -> None:
    script = working()
    finding = found(script, around(script, 30.0))
    assert (finding.rule, finding.idle_s, finding.threshold_s) == ("no_progress", 30.0, 30.0)
    assert finding.since == script.tape.now
    assert "no outcome for 30 s after 1 samples" in finding.cause


def test_the_threshold_follows_the_models_latency() -> None:
    script = working()
    assert find_stuck(script.state, around(script, 199, latency_p95_s=50.0)) is None
    finding = found(script, around(script, 200, latency_p95_s=50.0))
    assert finding.threshold_s == 200.0
    assert "95 % of this model's calls took at most 50.0 s" in finding.cause


@given(
    st.one_of(st.none(), st.floats(0, 10_000)),
    st.floats(1, 2_000),
)
def test_the_threshold_stays_between_floor_and_cap(p95: float | None, floor: float) -> None:
    threshold = threshold_s(p95, floor)
    assert floor <= threshold <= max(900.0, floor)


def test_a_queued_batch_that_nobody_claims_is_stuck_with_words_of_its_own() -> None:
    script = Script()
    script.start()
    finding = found(script, around(script, 31, live_nodes=3))
    assert finding.rule == "no_progress"
    assert "no slice was ever claimed in 31 s, although 3 generators" in finding.cause


def test_a_silent_model_is_named_as_never_having_produced_a_sample() -> None:
    script = Script()
    script.start()
    script.claim(0)
    # A model of which nothing is known may be a slow one.
    assert find_stuck(script.state, around(script, 119)) is None
    finding = found(script, around(script, 120))
    assert finding.cause.startswith("never produced a sample")
    assert "endpoint" in finding.suggestion


def test_the_dominant_error_decides_the_suggestion() -> None:
    script = Script()
    script.start()
    script.claim(0)
    script.fail_attempt(0, "timeout", "no token in 20 s")
    script.fail_attempt(1, "auth", "the key was refused")
    script.fail_attempt(1, "auth", "the key was refused")
    finding = found(script, around(script, 31))
    assert finding.cause == (
        "never produced a sample; most often 2 attempts failed by auth;"
        " the last one said: the key was refused"
    )
    assert "API key" in finding.suggestion


def test_a_few_failures_before_are_no_cause_while_nobody_makes_a_call() -> None:
    """The node was killed and lives again, but what it held nobody has claimed since."""
    script = Script(spec=example_spec(8, slice_size=4, budgets=Budgets(max_attempts=100)))
    script.start()
    script.claim(0, node="g1")
    for slot in range(3):
        script.generate(slot)
    script.fail_attempt(3, "validation", "too short")
    idle = found(script, around(script, 31, alive={"g1", "g2"}, calling={"g2"}, live_nodes=2))
    assert idle.cause == (
        "no outcome for 31 s and no call in flight: 5 samples are open in slices that node g1 held"
        " last; they wait to be granted from its budget again, 2 generators of the pool live"
    )
    assert "dispatcher" in idle.suggestion
    busy = found(script, around(script, 31, alive={"g1", "g2"}, calling={"g1"}))
    assert "1 attempt failed by validation" in busy.cause


def test_resolved_slots_without_completion_are_stuck_with_a_cause_of_their_own() -> None:
    script = Script(spec=example_spec(2, slice_size=2))
    script.start()
    script.claim(0)
    script.generate(0)
    script.generate(1)
    finding = found(script, around(script, 31))
    assert "every sample has its outcome, but nobody completed the batch" in finding.cause


def test_no_live_generator_for_fifteen_seconds_is_no_worker() -> None:
    script = working()
    gone = script.tape.now
    assert find_stuck(script.state, around(script, 14.9, live_nodes=0, nodeless_since=gone)) is None
    finding = found(script, around(script, 15, live_nodes=0, nodeless_since=gone))
    assert (finding.rule, finding.threshold_s) == ("no_worker", 15.0)
    assert "no generator of pool 'default'" in finding.cause
    assert "7 of 8 samples are open" in finding.cause
    assert "millstream generator" in finding.suggestion


def test_no_worker_counts_from_the_start_of_a_batch_that_came_later() -> None:
    script = working()
    long_ago = script.tape.now - timedelta(hours=1)
    assert find_stuck(script.state, around(script, 10, nodeless_since=long_ago)) is None


def test_a_batch_without_open_slots_needs_no_worker() -> None:
    script = Script(spec=example_spec(1, slice_size=1))
    script.start()
    script.claim(0)
    script.generate(0)
    assert find_stuck(script.state, around(script, 20, nodeless_since=script.tape.now)) is None


def test_a_paused_batch_is_never_stuck() -> None:
    script = working()
    script.pause()
    gone = script.tape.now
    assert find_stuck(script.state, around(script, 1e6, live_nodes=0, nodeless_since=gone)) is None


def test_a_resumed_batch_counts_from_its_resumption() -> None:
    script = working()
    script.pause()
    script.tape.wait(3600)
    script.resume()
    assert find_stuck(script.state, around(script, 29)) is None
    assert found(script, around(script, 30)).rule == "no_progress"


def test_a_stop_that_takes_longer_than_five_seconds_is_overdue() -> None:
    script = working()
    script.request_stop()
    assert find_stuck(script.state, around(script, 4.9)) is None
    finding = found(script, around(script, 5))
    assert finding.rule == "stop_overdue"
    assert "2 of 2 slices are open" in finding.cause


def test_a_stop_that_a_full_store_keeps_from_its_end_names_the_store_and_what_to_do() -> None:
    script = working()
    script.request_stop()
    finding = found(script, around(script, 5, complaint="the event store is 100% full"))
    assert finding.cause.endswith("the generators say: the event store is 100% full")
    assert finding.suggestion == "mend what the generators name; the stop ends by itself then"


def test_an_overdue_stop_is_found_without_any_node() -> None:
    script = working()
    script.request_stop()
    script.close(0)
    gone = script.tape.now - timedelta(hours=1)
    finding = found(script, around(script, 5, live_nodes=0, nodeless_since=gone))
    assert finding.rule == "stop_overdue"
    assert "1 of 2 slices are open" in finding.cause


def test_ended_and_unknown_batches_are_never_stuck() -> None:
    stopped = working()
    stopped.stop()
    done = Script().run()
    unknown = Script()
    for script in (stopped, done, unknown):
        assert find_stuck(script.state, around(script, 1e6)) is None


def test_a_throttled_batch_waits_until_the_provider_allows_more() -> None:
    script = working()
    script.throttle(120)
    assert find_stuck(script.state, around(script, 120 + 28)) is None
    assert found(script, around(script, 120 + 31)).rule == "no_progress"


def test_a_pause_before_a_retry_is_not_held_against_the_batch() -> None:
    script = working()
    recorded = script.fail_attempt(1)
    event = recorded.event
    assert isinstance(event, SampleAttemptFailed)
    waits = event.model_copy(update={"retry_in_s": 60.0})
    moved = moved_at(Recorded(recorded.sequence, recorded.stored_at, waits))
    assert find_stuck(script.state, around(script, 80, moved_at=moved)) is None
    assert found(script, around(script, 90, moved_at=moved)).rule == "no_progress"


def test_announced_waits_are_bounded() -> None:
    script = working()
    throttled = script.throttle(1e6)
    event = throttled.event
    assert isinstance(event, RouteThrottled)
    moved = moved_at(throttled)
    assert moved is not None
    assert moved - throttled.stored_at == timedelta(seconds=600)


def test_a_node_that_dies_again_and_again_on_a_slice_does_not_look_like_movement() -> None:
    script = Script()
    started = script.start()
    moves = [moved_at(script.claim(0, node=f"node-{number}")) for number in range(4)]
    assert isinstance(started.event, BatchStarted)
    assert isinstance(script.tape.recorded[-1].event, SliceClaimed)
    assert [moment is not None for moment in moves] == [True, True, False, False]


def test_time_in_which_nobody_watched_or_worked_is_not_held_against_the_batch() -> None:
    script = working()
    later = script.tape.now + timedelta(hours=1)
    watching = around(script, 3600 + 10, observed_since=later)
    assert find_stuck(script.state, watching) is None
    assert find_stuck(script.state, around(script, 3600 + 10, working_since=later)) is None
    finding = found(script, around(script, 3600 + 30, observed_since=later))
    assert finding.idle_s == 3630.0


@given(st.floats(0, 1e7))
def test_the_rule_is_monotonic_in_time(seconds: float) -> None:
    script = working()
    is_stuck = find_stuck(script.state, around(script, seconds)) is not None
    assert is_stuck == (seconds >= 30.0) or abs(seconds - 30.0) < 1e-5


def test_a_batch_whose_generators_start_no_call_says_why_whatever_its_model_takes() -> None:
    script = working()
    full = "the event store is 98% full, so no call starts"
    known = {"latency_p95_s": 50.0, "complaint": full}
    assert find_stuck(script.state, around(script, 14.9, **known)) is None
    finding = found(script, around(script, 15.0, **known))
    assert (finding.rule, finding.threshold_s) == ("no_progress", 15.0)
    assert full in finding.cause
