"""True stalls, one per rule and cause: each is found in time, told in words, and cleared."""

from collections.abc import Callable

import pytest

from millstream.testing import stalls, stalls_of_slices
from millstream.testing.watch import Watch
from millstream_projector.heads import Known
from millstream_projector.stuck.judge import Judge

SLACK_S = 2.0
LONG_S = 3_000

STALLS: list[tuple[Callable[[Watch], stalls.Scene], str, float, str]] = [
    (stalls.worker_dead, "no_worker", 15, "no generator of pool 'default'"),
    (stalls.worker_left, "no_worker", 15, "no generator of pool 'default'"),
    (stalls.no_worker_from_the_start, "no_worker", 15, "10 of 10 samples are open"),
    (stalls.workers_of_another_pool_only, "no_worker", 15, "no generator of pool 'default'"),
    (stalls.worker_dead_while_throttled, "no_worker", 15, "no generator of pool 'default'"),
    (stalls.model_silent, "no_progress", 30, "no outcome for 30 s after 3 samples"),
    (
        stalls.slow_model_silent,
        "no_progress",
        200,
        "95 % of this model's calls took at most 50.0 s",
    ),
    (stalls.slowest_model_silent, "no_progress", 900, "no outcome for 900 s"),
    (stalls.unknown_model_silent, "no_progress", 120, "never produced a sample"),
    (stalls.silent_on_a_full_node, "no_progress", 200, "no outcome for 200 s after 3 samples"),
    (stalls.model_times_out_on_every_call, "no_progress", 30, "failed by timeout"),
    (stalls.circuit_open_for_silence, "no_progress", 30, "the answer stalled"),
    (stalls.circuit_closed_and_nothing_follows, "no_progress", 30, "failed by server"),
    (stalls.throttled_and_nothing_follows, "no_progress", 30, "no outcome for"),
    (
        stalls.provider_refuses_without_end,
        "no_progress",
        1800,
        "no sample for 30 minutes; 30 attempts",
    ),
    (stalls.circuit_opens_without_end, "no_progress", 1800, "quota used up"),
    (stalls.every_answer_is_rejected, "no_progress", 1800, "failed by validation"),
    (stalls.queue_lost_and_no_dispatcher, "no_progress", 30, "no outcome for 30 s"),
    (
        stalls.never_claimed,
        "no_progress",
        30,
        "no slice was ever claimed in 30 s, although 1 generator",
    ),
    (stalls.store_full, "no_progress", 15, "the generators say: the event store is 96 % full"),
    (stalls.nobody_completes, "no_progress", 30, "nobody completed the batch"),
    (stalls.resumed_and_forgotten, "no_progress", 30, "no outcome for 30 s"),
    (stalls.starved_in_line, "no_progress", 900, "no slice was ever claimed in 900 s"),
    (
        stalls_of_slices.slices_of_a_dead_node,
        "lost_node",
        15,
        "node node-1 died at work and nobody took over",
    ),
    (stalls_of_slices.slices_of_a_node_that_nobody_saw, "lost_node", 15, "node node-1 died"),
    (
        stalls_of_slices.slice_that_kills_its_nodes,
        "poison",
        1,
        "slice 1 (slots 4 to 7) was claimed 7 times",
    ),
    (
        stalls_of_slices.slice_that_crashes_on_a_node_that_lives,
        "poison",
        1,
        "was claimed 6 times in a row",
    ),
    (stalls_of_slices.slot_beyond_its_attempts, "poison", 1, "slot 5 has used 4 attempts of 3"),
    (stalls_of_slices.stop_never_ends, "stop_overdue", 5, "4 of 4 slices are open"),
    (stalls_of_slices.stop_half_done, "stop_overdue", 5, "3 of 4 slices are open"),
    (stalls_of_slices.drain_past_its_bound, "stop_overdue", 5, "has not ended"),
    (stalls_of_slices.drain_by_a_clock_an_hour_ahead, "stop_overdue", 5, "has not ended"),
    (stalls_of_slices.stop_without_any_node, "stop_overdue", 5, "has not ended"),
]


@pytest.mark.parametrize(
    ("stall", "rule", "threshold_s", "words"), STALLS, ids=[stall[0].__name__ for stall in STALLS]
)
def test_a_true_stall_is_found_in_time_and_cleared(
    stall: Callable[[Watch], stalls.Scene], rule: str, threshold_s: float, words: str
) -> None:
    scene = stall(Watch(Judge(floor_s=30.0, lease_s=10.0), Known))
    began, script = scene.watch.tape.now, scene.script
    scene.watch.look()
    while not scene.watch.alarms:
        scene.watch.run(1, scene.each)
        assert (scene.watch.tape.now - began).total_seconds() < LONG_S, "it was never found"
    (alarm,) = scene.watch.alarms
    finding = alarm.finding
    assert finding is not None
    assert (alarm.batch_id, finding.rule) == (script.batch_id, rule)
    assert finding.threshold_s == threshold_s
    assert words in finding.cause
    assert finding.suggestion
    found_s = (alarm.at - began).total_seconds()
    assert scene.after_s + threshold_s - 1 <= found_s <= scene.after_s + threshold_s + SLACK_S
    assert script.state.stuck == finding
    assert scene.watch.run(20, scene.each) == []  # said once
    scene.heal()
    cleared = scene.watch.run(2)
    assert [alarm.finding for alarm in cleared] in ([None], [])
    assert script.state.stuck is None
    assert cleared or script.state.is_final


def test_a_longer_lease_gives_dead_nodes_longer() -> None:
    scene = stalls_of_slices.slices_of_a_dead_node(Watch(Judge(floor_s=30.0, lease_s=60.0), Known))
    (alarm,) = scene.watch.run(100)
    assert alarm.finding is not None
    assert (alarm.finding.rule, alarm.finding.threshold_s) == ("lost_node", 65)
