"""Decisions: every command in every state."""

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from millstream.domain.batch import apply
from millstream.domain.decide import Refusal, Stamp, complete, decide, end_stop, fail
from millstream.domain.recorded import Recorded
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream_schemas import commands, control, events, subjects
from millstream_schemas.envelope import Actor, Counts
from millstream_schemas.errors import ErrorInfo

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = "batch_1767225600_00000001"
SPEC = example_spec(4, slice_size=2)
ERROR = ErrorInfo(category="auth", message="the key was refused")
STATES = ["unknown", "queued", "running", "paused", "stopping", "draining", "stopped"]
STATES += ["completed", "failed"]
COMMANDS: dict[str, commands.BatchCommand] = {
    "cancel": commands.StopBatch(reason="now"),
    "drain": commands.StopBatch(mode="drain", grace_s=7, reason="enough"),
    "pause": commands.PauseBatch(reason="lunch"),
    "resume": commands.ResumeBatch(reason="back"),
    "priority": commands.SetPriority(priority="high", reason="the boss asks"),
    "same priority": commands.SetPriority(priority="normal"),
}
LIVE = ("queued", "running", "paused")
EVENTS = {
    **{(stop, name): control.BatchStopRequested for stop in ("cancel", "drain") for name in LIVE},
    ("cancel", "draining"): control.BatchStopRequested,
    ("pause", "queued"): control.BatchPaused,
    ("pause", "running"): control.BatchPaused,
    ("resume", "paused"): control.BatchResumed,
    **{("priority", name): control.BatchPriorityChanged for name in LIVE},
}
ALREADY = {
    *((stop, name) for stop in ("cancel", "drain") for name in ("stopping", "stopped")),
    ("drain", "draining"),
    ("pause", "paused"),
    ("resume", "queued"),
    ("resume", "running"),
    *(("same priority", name) for name in LIVE),
}
ALLOWED = {
    "queued": ("stop", "pause", "priority", "clone"),
    "running": ("stop", "pause", "priority", "clone"),
    "paused": ("stop", "resume", "priority", "clone"),
    "stopping": ("stop", "clone"),
    "draining": ("stop", "clone"),
    "stopped": ("continue", "clone"),
    "completed": ("retry-failed", "continue", "clone"),
    "failed": ("continue", "clone"),
}


def stamp() -> Stamp:
    """Return a stamp of a user's command."""
    numbers = count(1)
    return Stamp(
        new_id=lambda: f"{next(numbers):032x}",
        time=NOW,
        actor=Actor(kind="user", id="ada"),
        source="test",
        command_id="command-1",
    )


def script_in(name: str) -> Script:
    """Return a batch in a state; running, paused and completed ones have all their outcomes."""
    script = Script(batch_id=BATCH, spec=SPEC)
    if name == "unknown":
        return script
    script.start()
    if name in {"running", "paused", "completed"}:
        script.claim(0)
        script.claim(1)
        for slot in range(SPEC.target - 1):
            script.generate(slot)
        script.fail(SPEC.target - 1)
    match name:
        case "draining":
            script.drain()
        case "paused":
            script.pause()
        case "completed":
            script.complete()
        case "stopping" | "stopped" | "failed":
            script.request_stop(error=ERROR if name == "failed" else None)
            if name != "stopping":
                script.end_stop()
    return script


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_in_every_state_has_its_answer(command: str, name: str) -> None:
    state = script_in(name).state
    decision = decide(state, COMMANDS[command], stamp())
    if (command, name) in EVENTS:
        assert type(decision) is EVENTS[command, name]
        after = apply(state, Recorded(state.sequence + 1, NOW, decision))
        is_same_phase = command == "priority" or name == "draining"
        assert (after.anomalies, after.phase == state.phase) == (0, is_same_phase)
    elif (command, name) in ALREADY:
        assert decision is None
    else:
        assert isinstance(decision, Refusal)
        assert decision.code == ("not_found" if name == "unknown" else "invalid_transition")
        assert BATCH in decision.message
        assert name == "unknown" or f"is {state.state} and can't be" in decision.message
        assert decision.allowed == ALLOWED.get(name, ())


def test_an_event_carries_the_stamp_and_the_words_of_its_command() -> None:
    event = decide(script_in("running").state, COMMANDS["drain"], stamp())
    assert isinstance(event, control.BatchStopRequested)
    assert (event.mode, event.reason, event.error) == ("drain", "enough", None)
    assert event.bound_at == NOW + timedelta(seconds=7)
    assert (event.id, event.actor.id, event.command_id) == (f"{1:032x}", "ada", "command-1")
    assert (event.batch_id, event.subject) == (BATCH, subjects.control(BATCH))
    assert events.parse(events.dump(event)) == event
    at_once = decide(script_in("draining").state, COMMANDS["cancel"], stamp())
    assert isinstance(at_once, control.BatchStopRequested)
    assert (at_once.mode, at_once.bound_at, at_once.reason) == ("cancel", None, "now")


@pytest.mark.parametrize("name", STATES)
def test_a_failure_asks_for_the_end_once(name: str) -> None:
    event = fail(script_in(name).state, ERROR, stamp())
    if name not in {"queued", "running", "paused"}:
        assert event is None
    else:
        assert isinstance(event, control.BatchStopRequested)
        assert (event.error, event.reason) == (ERROR, ERROR.message)


def test_the_reason_of_a_failure_fits_its_field() -> None:
    error = ErrorInfo(category="server", message="x" * 2000)
    event = fail(script_in("running").state, error, stamp())
    assert isinstance(event, control.BatchStopRequested)
    assert (len(event.reason), event.error) == (500, error)


@pytest.mark.parametrize("name", STATES)
def test_only_a_live_batch_without_open_slots_completes(name: str) -> None:
    state = script_in(name).state
    event = complete(state, stamp())
    assert (event is not None) == (name in {"running", "paused"})
    assert event is None or event.counts == state.counts


def test_a_batch_with_one_open_slot_does_not_complete() -> None:
    script = Script(batch_id=BATCH, spec=SPEC)
    script.start()
    script.claim(0)
    script.claim(1)
    for slot in range(SPEC.target):
        assert complete(script.state, stamp()) is None
        script.generate(slot)
    assert complete(script.state, stamp()) is not None


@pytest.mark.parametrize("error", [None, ERROR])
def test_a_stop_ends_as_failed_exactly_when_it_carries_an_error(error: ErrorInfo | None) -> None:
    script = script_in("queued")
    script.request_stop(error=error)
    counts = Counts(generated=1, pending=3)
    event = end_stop(script.state, counts, stamp())
    assert event.counts == counts
    if error is None:
        assert isinstance(event, control.BatchStopped)
    else:
        assert isinstance(event, control.BatchFailed)
        assert event.error == error


@pytest.mark.parametrize("name", [name for name in STATES if name not in {"stopping", "draining"}])
def test_a_batch_that_is_not_stopping_can_not_be_ended(name: str) -> None:
    with pytest.raises(LookupError, match="not stopping"):
        end_stop(script_in(name).state, Counts(), stamp())
