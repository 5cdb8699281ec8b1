"""What a sound system may append next, and the fold of a log by nothing but ``apply``."""

from collections.abc import Callable
from functools import partial
from random import Random

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.recorded import microseconds
from millstream.eventlog.stored import Decoder, Stored
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.tape import Tape
from millstream_schemas.notes import StuckFinding

FINDING = StuckFinding(
    rule="no_progress", since=Tape().now, idle_s=31, threshold_s=30, cause="nothing came"
)


def plain_fold(stored: list[Stored]) -> dict[str, BatchState]:
    """The fold of everything, kept in memory: what the tables have to equal."""
    decode, states = Decoder(), dict[str, BatchState]()
    for item in stored:
        recorded = decode(item)
        if recorded is not None:
            batch_id = recorded.event.batch_id
            states[batch_id] = apply(states.get(batch_id) or BatchState(batch_id), recorded)
    return states


def mixed_log(rng: Random, batches: int, *, strays: bool) -> list[Stored]:
    """Return batches side by side, with events that nobody can read, twice, or out of place.

    With ``strays`` some also stand under another batch's subject; some come after their batch's
    end either way.
    """
    tape = Tape()
    scripts = [
        Script(
            tape,
            batch_id=f"batch_1767225600_{number:08x}",
            spec=example_spec(rng.randint(1, 40), slice_size=rng.choice([1, 4, 64])),
        )
        for number in range(batches)
    ]
    for _ in range(100 * batches):
        script = rng.choice(scripts)
        choices = legal_steps(script)
        if choices:
            rng.choice(choices)()
        elif rng.random() < 0.1:
            script.note_child(kind=rng.choice(["retry_failed", "continue"]))
    log: list[Stored] = []
    for entry in tape.entries:
        found = [entry.stored.payload]
        if rng.random() < 0.1:
            alien = rng.choice(log).payload if log and strays else b"[]"
            found.append(rng.choice([b"{", found[0], alien]))
        if rng.random() < 0.05:
            found.append(
                found[0].replace(b'"generated":"', b'"generated":"f').replace(b":10", b":9")
            )
        for payload in found:
            log.append(Stored(len(log) + 1, microseconds(tape.now), entry.stored.subject, payload))
    return log


def legal_steps(script: Script) -> list[Callable[[], object]]:
    """Everything that a sound system might append to the batch next."""
    phase = script.state.phase
    if phase == "unknown":
        return [script.start]
    if script.state.is_final:
        return []
    claimed = [index for index in range(script.spec.slices) if index in script.slices]
    unclosed = [index for index in range(script.spec.slices) if not _is_done(script, index)]
    if phase == "stopping":
        if not unclosed:
            return [script.end_stop]
        return [lambda: script.close(unclosed[0]), lambda: script.close(unclosed[-1])]
    steps: list[Callable[[], object]] = [
        script.resume if phase == "paused" else script.pause,
        script.request_stop,
        lambda: script.throttle(5),
        lambda: script.detect_stuck(FINDING),
        lambda: script.clear_stuck("no_progress"),
    ]
    if not script.open_slots():
        return [script.complete, *steps]
    steps += [partial(script.claim, index) for index in range(script.spec.slices)]
    for slot in script.open_slots():
        if script.place(slot)[0] in claimed:
            steps += [
                partial(script.generate, slot),
                partial(script.generate, slot, latency_ms=None, cost_nano_usd=None),
                partial(script.fail_attempt, slot, "timeout"),
                partial(script.reject, slot),
                partial(script.fail, slot),
            ]
    return steps


def _is_done(script: Script, index: int) -> bool:
    state = script.slices.get(index)
    return state is not None and state.closed
