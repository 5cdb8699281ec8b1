"""What a sound system may append next, and the fold of a log by nothing but ``apply``."""

from collections.abc import Callable
from functools import partial

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.eventlog.stored import Decoder, Stored
from millstream.testing.events import Script
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
