"""What both folds must come to: golden logs with the expected digests, and logs of chance.

``python -m millstream.testing.folds tests/golden/folds`` writes the golden ones. A log is an
export's lines; the page's tests read the same files (services/dashboard/tests/golden.test.ts).
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState, SliceTail
from millstream.domain.digest import digest, view_digest
from millstream.domain.recorded import microseconds
from millstream.domain.view import batch_view
from millstream.eventlog.archive import export_line
from millstream.eventlog.stored import Decoder, Stored
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.histories import BATCH, ENDINGS, any_event, own, play
from millstream.testing.redacted import redacted, redaction
from millstream.testing.tape import BEGIN, Tape
from millstream_schemas import control, events, slices
from millstream_schemas.envelope import EXACT_MOST, BatchEvent

STEP = 10
"""A digest is kept after every tenth event and after the last one."""


@dataclass
class Folded:
    """A log folded from its stored bytes, batch by batch."""

    states: dict[str, BatchState] = field(default_factory=dict)
    decode: Decoder = field(default_factory=Decoder)

    def take(self, stored: Stored) -> None:
        """Fold one message; what is no event of a batch is counted."""
        recorded = self.decode(stored)
        if recorded is None:
            return
        batch_id = recorded.event.batch_id
        state = self.states.get(batch_id, BatchState(batch_id))
        self.states[batch_id] = apply(state, recorded)


def state_document(state: BatchState) -> dict[str, Any]:
    """Return everything that decides how a batch goes on; the page's tests make the same."""
    return {
        "phase": state.phase,
        "sequences": [state.sequence, state.control_sequence, state.note_sequence],
        "counts": state.counts,
        "errors": dict(state.errors.items()),
        "last_error": state.last_error,
        "stuck": state.stuck,
        "held_up": state.held_up,
        "budgets_warned": state.budgets_warned,
        "retry_id": state.retry.child_id if state.retry else None,
        "child_id": state.child.child_id if state.child else None,
        "late": state.late,
        "anomalies": state.anomalies,
        "slices": {str(index): _tail(tail) for index, tail in state.slices.items()},
        "view": batch_view(state) if state.started else None,
    }


def _tail(tail: SliceTail) -> list[Any]:
    return [tail.sequence, tail.state, f"{tail.late:x}"]


def states_digest(states: Iterable[BatchState]) -> str:
    """Return one digest of several batches."""
    return digest({state.batch_id: state_document(state) for state in states})


def expected(log: Sequence[Stored]) -> dict[str, Any]:
    """Return what a fold of ``log`` comes to, on the way and at its end."""
    folded, digests = Folded(), {}
    for number, stored in enumerate(log, start=1):
        folded.take(stored)
        if number % STEP == 0 or number == len(log):
            digests[str(stored.sequence)] = states_digest(folded.states.values())
    views = [batch_view(state) for state in folded.states.values() if state.started]
    return {
        "digests": digests,
        "views": {view.id: view.model_dump(mode="json") for view in views},
        "view_digests": {view.id: view_digest(view) for view in views},
        "unknown": folded.decode.unknown,
        "malformed": folded.decode.malformed,
        "system": folded.decode.system,
    }


def stored_of(sequence: int, event: BatchEvent) -> Stored:
    """Return an event as a stored message at ``sequence``, a second and a microsecond later."""
    moment = BEGIN + timedelta(seconds=sequence, microseconds=sequence)
    return Stored(sequence, microseconds(moment), event.subject, events.dump(event))


def any_log(rng: Random, spec: control.BatchSpec, moves: int, ending: str) -> list[Stored]:
    """Return a log that is sound up to a point and goes on with anything."""
    history = own(play(rng, spec, moves, ending))
    if rng.random() < 0.5:
        history = history[: rng.randrange(len(history) + 1)]
    log = [stored_of(item.sequence, item.event) for item in history]
    sequence = log[-1].sequence if log else 0
    for _ in range(rng.randrange(16)):
        sequence += rng.randint(1, 2)
        log.append(stored_of(sequence, any_event(rng, spec)))
    return log


def lines_of(log: Sequence[Stored]) -> str:
    """Return a log as the lines of an export, without a manifest."""
    return b"".join(map(export_line, log)).decode()


def _chance(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - it has to be the same each time, not secret


def golden_logs() -> dict[str, list[Stored]]:
    """Return the golden logs by name; the same ones each time."""
    spec = example_spec(
        40,
        slice_size=8,
        seed=2**63 - 1,
        instruction='Öl, "quoted" \u2028 and 🜁',
        budgets=control.Budgets(max_duration_s=0.1, max_failure_ratio=1e-7, max_tokens=10**15),
    )
    logs = {
        ending: play(_chance(number), spec, 40, ending).tape.stored
        for number, ending in enumerate(ENDINGS)
    }
    logs["garbage"] = [stored_of(1, _started(spec))] + [
        stored_of(2 + place, any_event(rng, spec)) for rng in [_chance(7)] for place in range(60)
    ]
    logs["redacted"] = _redacted_log()
    logs["newer"] = _newer_log()
    logs["corners"] = _corners_log()
    logs["absurd"] = absurd_log()
    logs["routed"] = routed(logs["completed"])
    logs["wide"] = play(_chance(9), example_spec(130, slice_size=64), 70, "stopped").tape.stored
    return logs


def _started(spec: control.BatchSpec) -> BatchEvent:
    return Script(Tape(), batch_id=BATCH, spec=spec).start().event


def _redacted_log() -> list[Stored]:
    script = play(_chance(8), example_spec(12, slice_size=4), 30, "completed")
    return redacted(script.tape.stored, (0, 1, 5), attempts=True)


def _newer_log() -> list[Stored]:
    """A log with messages that this version can't read, and one of no batch."""
    log = play(_chance(3), example_spec(4, slice_size=2), 10, "completed").tape.stored
    own_start = log[1]
    document = json.loads(own_start.payload)
    odd = [
        json.dumps({**document, "type": "batch.dreamt.v9"}).encode(),
        json.dumps({**document, "type": "batch.started.v1", "spec": None}).encode(),
        b"no JSON at all",
        b"\xff\xfe",
        b'["a list"]',
        b'{"type": 7}',
        json.dumps({**document, "actor": {"kind": "ghost", "id": "x"}}).encode(),
    ]
    last = log[-1].sequence
    return log + [
        Stored(last + place, microseconds(BEGIN), own_start.subject, payload)
        for place, payload in enumerate(odd, start=1)
    ]


def absurd_log() -> list[Stored]:
    """A log as of a time when any number that a provider told was believed."""
    script = Script(spec=example_spec(8, slice_size=2))
    script.start()
    for slot, told in enumerate((2**53 - 2, 2**53, 2**64 - 1, 10**30)):
        index, _ = script.place(slot)
        if index not in script.slices:
            script.claim(index)
        script.generate(slot, tokens_in=told, cost_nano_usd=told)
    script.claim(3)
    script.fail_attempt(6, tokens_in=10**15, cost_nano_usd=2**63 - 1)
    script.generate(6)
    script.request_stop()
    # As those wrote it who did not stop at that number.
    exact, more = str(EXACT_MOST).encode(), str(10**30).encode()
    return [
        Stored(item.sequence, item.time_us, item.subject, item.payload.replace(exact, more))
        for item in script.tape.stored
    ]


def routed(log: Sequence[Stored]) -> list[Stored]:
    """Return a log whose attempts name their routes, as those of before that field do not."""

    def payload(stored: Stored) -> bytes:
        event = events.parse(stored.payload)
        if not isinstance(event, slices.AttemptEvent):
            return stored.payload
        return events.dump(event.model_copy(update={"route": f"route.{event.slot % 2:024x}"}))

    return [Stored(item.sequence, item.time_us, item.subject, payload(item)) for item in log]


def _corners_log() -> list[Stored]:
    """A log with what chance hardly meets: one slice twice, four children, an erased error."""
    script = Script(spec=example_spec(4, slice_size=2))
    script.start()
    for index in (0, 1):
        script.claim(index)
    script.fail_attempt(1, message="of slot 1")
    script.request_stop()
    closed = script.close(0).event
    assert isinstance(closed, slices.SliceClosed)
    opened = closed.after.model_copy(update={"closed": False})
    script.record(closed.model_copy(update={"after": opened}))
    script.close(1)
    script.end_stop()
    script.note_child("batch_1767225600_0000c11c", kind="retry_failed")
    script.note_child("batch_1767225600_0000c11f", kind="retry_failed")
    script.note_child()
    script.note_child("batch_1767225600_0000c11e")
    # As a reader sees it that had folded the message before it was erased.
    log = script.tape.stored
    erasing = redaction(log[3], len(log) + 1, (1,))
    assert erasing is not None
    return [*log, erasing]


def golden_files() -> dict[str, str]:
    """Return the golden files: name -> text."""
    found: dict[str, str] = {}
    for name, log in golden_logs().items():
        found[f"{name}.jsonl"] = lines_of(log)
        words = json.dumps(expected(log), indent=1, ensure_ascii=False, sort_keys=True)
        found[f"{name}.expected.json"] = words + "\n"
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for file_name, text in golden_files().items():
        (folder / file_name).write_text(text, encoding="utf-8")
