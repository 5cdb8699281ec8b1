"""The table of transitions: eight control events, and a drain's cancel, in nine states."""

from dataclasses import replace

import pytest

from millstream.domain.batch import apply
from millstream.domain.recorded import Recorded
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.histories import BATCH, ENVELOPE, ERROR, control_events
from millstream.testing.tape import BEGIN
from millstream_schemas import control
from millstream_schemas.envelope import Counts

SPEC = example_spec(4, slice_size=2)
TRANSITIONS = {
    ("unknown", "BatchStarted"): "queued",
    ("queued", "BatchPaused"): "paused",
    ("running", "BatchPaused"): "paused",
    ("paused", "BatchResumed"): "running",
    ("queued", "BatchPriorityChanged"): "queued",
    ("running", "BatchPriorityChanged"): "running",
    ("paused", "BatchPriorityChanged"): "paused",
    ("queued", "BatchStopRequested"): "stopping",
    ("running", "BatchStopRequested"): "stopping",
    ("paused", "BatchStopRequested"): "stopping",
    ("draining", "BatchStopRequested"): "stopping",
    ("stopping", "BatchStopped"): "stopped",
    ("draining", "BatchStopped"): "stopped",
    ("stopping", "BatchFailed"): "failed",
    ("draining", "BatchFailed"): "failed",
    ("running", "BatchCompleted"): "completed",
    ("paused", "BatchCompleted"): "completed",
}
STATES = ["unknown", "queued", "running", "paused", "stopping", "draining", "stopped"]
STATES += ["completed", "failed"]
"""Those that users see, but that a draining stop can still become a cancelling one."""
KINDS = [type(event).__name__ for event in control_events(SPEC, Counts())]


def script_in(name: str) -> Script:
    """Return a batch in a state; each but a queued one has all its samples."""
    script = Script(batch_id=BATCH, spec=SPEC)
    if name == "unknown":
        return script
    script.start()
    if name != "queued":
        script.claim(0)
        script.claim(1)
        for slot in range(4):
            script.generate(slot)
    match name:
        case "paused":
            script.pause()
        case "completed":
            script.complete()
        case "draining":
            script.drain()
        case "stopping" | "stopped" | "failed":
            script.request_stop(error=ERROR if name == "failed" else None)
            if name != "stopping":
                script.end_stop()
    return script


def test_the_table_covers_every_state_and_control_event() -> None:
    assert len(STATES) * len(KINDS) == 72
    assert {state for state, _ in TRANSITIONS} <= set(STATES)
    assert {kind for _, kind in TRANSITIONS} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", STATES)
def test_only_a_legal_control_event_changes_the_state(name: str, kind: str) -> None:
    before = script_in(name).state
    assert name in {"unknown", "draining", before.state}
    sequence = before.sequence + 1
    event = control_events(SPEC, before.counts)[KINDS.index(kind)]
    after = apply(before, Recorded(sequence, BEGIN, event))
    if (name, kind) in TRANSITIONS:
        assert after.state == TRANSITIONS[name, kind]
        assert after.anomalies == 0
    else:
        assert after == replace(
            before, sequence=sequence, control_sequence=sequence, anomalies=before.anomalies + 1
        )


def test_a_draining_stop_can_not_follow_any_other() -> None:
    for name in ("stopping", "draining"):
        before = script_in(name).state
        event = control.BatchStopRequested(**ENVELOPE, mode="drain", bound_at=BEGIN)
        after = apply(before, Recorded(before.sequence + 1, BEGIN, event))
        assert (after.stop, after.anomalies) == (before.stop, 1)


def test_a_cancel_after_a_drain_is_the_stop_that_counts() -> None:
    script = script_in("draining")
    assert script.state.stop is not None
    assert script.state.stop.event.mode == "drain"
    script.request_stop("at once")
    assert (script.state.stop.event.mode, script.state.stop.event.reason) == ("cancel", "at once")
    assert (script.state.phase, script.state.anomalies) == ("stopping", 0)
    script.request_stop("again")
    assert (script.state.stop.event.reason, script.state.anomalies) == ("at once", 1)


def test_the_present_priority_is_that_of_the_last_change() -> None:
    script = script_in("queued")
    assert script.state.priority == "normal"
    script.set_priority("high")
    script.set_priority("low")
    assert (script.state.priority, script.state.spec.priority) == ("low", "normal")


def test_a_batch_with_open_slots_can_not_complete() -> None:
    script = script_in("queued")
    script.claim(0)
    before = script.state
    event = control.BatchCompleted(**ENVELOPE, counts=before.counts)
    after = apply(before, Recorded(before.sequence + 1, BEGIN, event))
    assert (after.state, after.anomalies) == ("running", 1)


def test_counts_of_a_final_event_that_differ_from_the_fold_are_an_anomaly() -> None:
    before = script_in("stopping").state
    event = control.BatchStopped(**ENVELOPE, counts=Counts(generated=3, pending=1))
    after = apply(before, Recorded(before.sequence + 1, BEGIN, event))
    assert (after.state, after.counts, after.anomalies) == ("stopped", before.counts, 1)


def test_a_claim_after_the_end_is_no_anomaly_but_an_outcome_is_late() -> None:
    script = script_in("queued")
    script.request_stop()
    script.end_stop()
    script.claim(0)
    assert (script.state.late, script.state.anomalies) == (0, 0)
    script.generate(0)
    script.generate(1)
    assert (script.state.late, script.state.anomalies) == (2, 2)
    assert script.state.counts.generated == 0
