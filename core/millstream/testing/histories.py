"""Histories driven by chance: sound ones as a log would hold them, and garbage.

Chance comes from a ``random.Random``, so that a property test can shrink what it found and a
bench can repeat it.
"""

from random import Random
from typing import Any

from millstream.domain import slice as steps
from millstream.domain.batch import is_upgrade
from millstream.domain.recorded import Recorded
from millstream.testing.events import Script
from millstream.testing.journal import CHILD
from millstream.testing.tape import BEGIN, Tape
from millstream_schemas import control, notes, slices
from millstream_schemas.envelope import Actor, BatchEvent, Counts
from millstream_schemas.errors import ErrorCategory, ErrorInfo
from millstream_schemas.slices import bitmap

BATCH = "batch_1767225600_00000001"
OTHER = "batch_1767225600_00000002"
ENDINGS = ("live", "stopping", "stopped", "failed", "completed")
PRIORITIES: tuple[control.Priority, ...] = ("high", "normal", "low")
CATEGORIES: tuple[ErrorCategory, ...] = ("server", "timeout", "rate_limit")
ERROR = ErrorInfo(category="auth", message="key refused")
FINDING = notes.StuckFinding(
    rule="no_progress", since=BEGIN, idle_s=31, threshold_s=30, cause="no outcome"
)
ENVELOPE: dict[str, Any] = {
    "id": "0",
    "source": "chance",
    "subject": "chance",
    "time": BEGIN,
    "actor": Actor(kind="system", id="chance"),
    "batch_id": BATCH,
}

_ATTEMPT: dict[str, Any] = {
    "slot": 0,
    "attempt": 1,
    "cell": {"area": "a", "topic": "t", "difficulty": "d", "sample_type": "s"},
    "model": "m",
    "provider": "p",
}
_ERROR_FIELDS: dict[str, Any] = {**_ATTEMPT, "category": "server", "message": "boom"}
_SLICE_KINDS: list[tuple[type[slices.SliceEvent], dict[str, Any]]] = [
    (slices.SliceClaimed, {}),
    (slices.SliceReleased, {}),
    (slices.SlotOnTrial, {"slot": 0}),
    (slices.CallsAnnounced, {}),
    (slices.SliceClosed, {}),
    (slices.SampleAbandoned, _ATTEMPT),
    (slices.SampleGenerated, {**_ATTEMPT, "content": {}}),
    (slices.SampleAttemptFailed, _ERROR_FIELDS),
    (slices.SampleRejected, {**_ATTEMPT, "rule": "schema", "message": "boom"}),
    (slices.SampleFailed, _ERROR_FIELDS),
]


def play(rng: Random, spec: control.BatchSpec, moves: int, ending: str) -> Script:
    """Return a legal history of ``moves`` steps that ends as ``ending`` (one of ENDINGS).

    The script's tape holds another batch too, which leaves gaps in the sequences of this one.
    """
    tape = Tape()
    other = Script(tape, batch_id=OTHER)
    script = Script(tape, batch_id=BATCH, spec=spec)
    other.start()
    script.start()
    for _ in range(moves):
        _step(rng, script)
        if rng.random() < 0.2:
            other.throttle(1)
    if ending == "completed":
        _complete(rng, script)
    elif ending != "live":
        _stop(rng, script, ending)
    if script.state.is_final and rng.random() < 0.5:
        script.note_child(kind=rng.choice(["retry_failed", "continue"]))
    return script


def _step(rng: Random, script: Script) -> None:
    slots = [slot for slot in script.open_slots() if script.place(slot)[0] in script.slices]
    draw = rng.random()
    if draw < 0.25 or not slots:
        _claim(rng, script)
    elif draw < 0.75:
        _attempt(rng, script, rng.choice(slots))
    elif draw < 0.8:
        script.release(rng.choice(list(script.slices)))
    elif draw < 0.83:
        script.put_on_trial(rng.choice(slots))
    elif draw < 0.86:
        script.announce_calls(rng.choice(list(script.slices)), rng.choice([None, 1, 5]))
    elif draw < 0.92:
        _control(rng, script)
    else:
        _note(rng, script)


def _claim(rng: Random, script: Script) -> None:
    script.claim(
        rng.randrange(script.spec.slices),
        node=f"node-{rng.randrange(3)}",
        at_risk=rng.randrange(3),
        allowance=rng.choice([None, None, 0, 3]),
        in_flight=rng.choice([None, 0, 2]),
    )


def _control(rng: Random, script: Script) -> None:
    if rng.random() < 0.4:
        script.set_priority(rng.choice(PRIORITIES))
    elif script.state.phase == "paused":
        script.resume()
    else:
        script.pause()


def _note(rng: Random, script: Script) -> None:
    notes_of_chance = [
        lambda: script.detect_stuck(FINDING),
        lambda: script.clear_stuck("no_progress"),
        lambda: script.throttle(rng.randrange(9)),
        lambda: script.block(rng.randrange(9)),
        script.recover,
        script.warn_budget,
    ]
    rng.choice(notes_of_chance)()


def _attempt(rng: Random, script: Script, slot: int) -> None:
    draw = rng.random()
    usage: dict[str, Any] = {
        "tokens_in": rng.randrange(9),
        "cost_nano_usd": rng.choice([None, 0, 7]),
    }
    if draw < 0.6:
        script.generate(slot, **usage)
    elif draw < 0.75:
        script.fail_attempt(slot, rng.choice(CATEGORIES), f"error {rng.randrange(2)}", **usage)
    elif draw < 0.9:
        script.reject(slot, **usage)
    else:
        script.fail(slot)


def _complete(rng: Random, script: Script) -> None:
    if script.state.phase == "paused":
        script.resume()
    for slot in script.open_slots():
        if script.place(slot)[0] not in script.slices:
            script.claim(script.place(slot)[0])
        script.generate(slot) if rng.random() < 0.8 else script.fail(slot)
    script.complete()


def _stop(rng: Random, script: Script, ending: str) -> None:
    if ending == "failed":
        script.request_stop(error=ERROR)
    elif rng.random() < 0.5:
        script.request_stop()
    else:
        script.drain()
    for slot in script.open_slots():
        if script.place(slot)[0] in script.slices and rng.random() < 0.3:
            script.generate(slot) if rng.random() < 0.5 else script.abandon(slot)
    if is_upgrade(script.state, "cancel") and rng.random() < 0.5:
        script.request_stop("at once")
    if ending == "stopping":
        return
    for index in list(script.slices):
        if not steps.is_done(script.slices[index], len(script.spec.slots(index))):
            script.close(index)
    script.end_stop()
    if rng.random() < 0.5:  # A node that had not heard of the end yet.
        script.claim(rng.randrange(script.spec.slices))


def own(script: Script) -> list[Recorded[BatchEvent]]:
    """Return the events of the script's own batch."""
    return [item for item in script.tape.recorded if item.event.batch_id == script.batch_id]


def control_events(spec: control.BatchSpec, counts: Counts) -> list[BatchEvent]:
    """Return one control event of each of the eight types."""
    return [
        control.BatchStarted(**ENVELOPE, spec=spec, dataset_id="d"),
        control.BatchPaused(**ENVELOPE),
        control.BatchResumed(**ENVELOPE),
        control.BatchPriorityChanged(**ENVELOPE, priority="high"),
        control.BatchStopRequested(**ENVELOPE),
        control.BatchStopped(**ENVELOPE, counts=counts),
        control.BatchCompleted(**ENVELOPE, counts=counts),
        control.BatchFailed(**ENVELOPE, error=ERROR, counts=counts),
    ]


def any_event(rng: Random, spec: control.BatchSpec) -> BatchEvent:
    """Return an event that may stand nowhere in a sound log."""
    draw = rng.random()
    if draw < 0.6:
        kind, extra = rng.choice(_SLICE_KINDS)
        event: BatchEvent = kind(
            **ENVELOPE, **extra, slice=rng.randrange(5), after=any_slice_state(rng)
        )
        return event
    if draw < 0.9:
        counts = Counts(generated=rng.randrange(3), pending=rng.randrange(3), cost_nano_usd=1)
        drain = control.BatchStopRequested(**ENVELOPE, mode="drain", bound_at=BEGIN)
        return rng.choice([*control_events(spec, counts), drain])
    return rng.choice(
        [
            notes.StuckDetected(**ENVELOPE, finding=FINDING),
            notes.StuckCleared(**ENVELOPE, rule="no_progress"),
            notes.BudgetWarned(**ENVELOPE, budget="cost", used=0.8),
            notes.RouteThrottled(**ENVELOPE, model="m", until=BEGIN),
            notes.RouteBlocked(**ENVELOPE, model="m", until=BEGIN, failures=5),
            notes.RouteRecovered(**ENVELOPE, model="m"),
            notes.ChildStarted(
                **ENVELOPE,
                child_id=CHILD,
                kind=rng.choice(["retry_failed", "continue"]),
                slots=1,
            ),
        ]
    )


def any_slice_state(rng: Random) -> slices.SliceState:
    """Return a slice state that fits no slice in particular: 5 bits wide, numbers up to 3."""
    small = {
        name: rng.randrange(4)
        for name in ("epoch", "tokens_in", "tokens_out", "rejected", "barren_claims", "unconfirmed")
    }
    money = {
        name: rng.choice([None, 0, 1, 2])
        for name in ("cost_nano_usd", "wasted_nano_usd", "unpriced")
    }
    return slices.SliceState(
        generated=_any_bitmap(rng),
        failed=_any_bitmap(rng),
        abandoned=_any_bitmap(rng),
        attempts={rng.choice(["0", "x"]): rng.randrange(-1, 3)},
        attempts_failed=rng.randrange(3),
        allowance=rng.choice([None, 0, 2]),
        in_flight=rng.choice([None, 0, 2]),
        errors={rng.choice(CATEGORIES): rng.randrange(-1, 3)},
        last_error=rng.choice([None, ERROR]),
        closed=rng.random() < 0.1,
        **small,
        **money,
    )


def _any_bitmap(rng: Random) -> str:
    return bitmap(rng.randrange(32) & rng.randrange(32))
