"""A log in simulated time and a judge who looks at it once a second, as the watchdog does."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.limited import Limited
from millstream.domain.stuck import moved_at
from millstream.testing.events import Script
from millstream.testing.tape import Tape
from millstream_schemas.answers import NodeBeat
from millstream_schemas.notes import StuckFinding
from millstream_schemas.slices import SampleGenerated

BEAT_LEFT_S = 8.5
"""How long a dead node's last beat stays, in the middle: it beats every 3 s, for 10 s."""
LATENCIES = 50


class Judging(Protocol):
    """What is asked of the projector's judge."""

    def look(
        self,
        live: Mapping[str, Any],
        latency_p95_s: Mapping[str, float],
        beats: Iterable[NodeBeat],
        now: datetime,
        limited: Mapping[str, Limited] = ...,
    ) -> Iterable[tuple[BatchState, Any]]:
        """Return each batch of which there is something to say."""
        ...


@dataclass(frozen=True, slots=True)
class Alarm:
    """A verdict and when it was given; ``finding`` is None when a batch is cleared."""

    at: datetime
    batch_id: str
    finding: StuckFinding | None


class Watch:
    """Folds a tape as the projector does; a verdict is written onto the tape like its note."""

    def __init__(self, judge: Judging, make_known: Callable[[BatchState, Any], Any]) -> None:
        """Watch with ``judge``, who takes of each batch what ``make_known`` gives."""
        self.tape = Tape(step_s=0.0)
        self.alarms: list[Alarm] = []
        self.scripts: dict[str, Script] = {}
        self.limited: dict[str, Limited] = {}
        """What the generators say of the limits of routes; it holds until it is taken out."""
        self._judge = judge
        self._make_known = make_known
        self._moved: dict[str, datetime] = {}
        self._latencies: dict[str, deque[float]] = {}
        self._folded: dict[str, BatchState] = {}
        self._read = 0
        self._beats: dict[str, tuple[NodeBeat, datetime | None]] = {}

    def script(self, **fields: Any) -> Script:
        """Return the script of a new batch."""
        batch_id = f"batch_1767225600_{len(self.scripts):08x}"
        self.scripts[batch_id] = Script(self.tape, batch_id=batch_id, **fields)
        return self.scripts[batch_id]

    def live(self, node: str = "node-1", **fields: Any) -> None:
        """Let ``node`` beat from now on until it dies; ``fields`` are further ones of NodeBeat."""
        known = self._beats.get(node)
        began = self.tape.now if known is None or known[1] is not None else known[0].started_at
        own = {"in_flight": 1, **fields}  # it waits for a model, unless it is told to be idle
        beat = NodeBeat(node=node, service="generator", started_at=began, **own)
        self._beats[node] = (beat, None)

    def die(self, node: str = "node-1") -> None:
        """Let ``node`` beat no more; what it said last is there for a while."""
        beat, _ = self._beats[node]
        self._beats[node] = (beat, self.tape.now + timedelta(seconds=BEAT_LEFT_S))

    def leave(self, node: str = "node-1") -> None:
        """Let ``node`` take its beat back."""
        del self._beats[node]

    def run(self, seconds: float, each: Callable[[], None] = lambda: None) -> list[Alarm]:
        """Let time pass, second by second, with ``each`` in it; return the alarms of it."""
        before = len(self.alarms)
        for _ in range(round(seconds)):
            self.tape.wait(1.0)
            each()
            self.look()
        return self.alarms[before:]

    def look(self) -> None:
        """Fold what is new and let the judge look once."""
        self._fold()
        now = self.tape.now
        beats = [beat for beat, ends in self._beats.values() if ends is None or ends > now]
        live = {
            batch_id: self._make_known(state, self._moved.get(batch_id))
            for batch_id, state in self._folded.items()
        }
        p95 = {model: _p95_s(found) for model, found in self._latencies.items()}
        for state, verdict in list(self._judge.look(live, p95, beats, now, self.limited)):
            finding = verdict if isinstance(verdict, StuckFinding) else None
            self.alarms.append(Alarm(now, state.batch_id, finding))
            script = self.scripts[state.batch_id]
            if finding is not None:
                script.detect_stuck(finding)
            elif state.stuck is not None:
                script.clear_stuck(state.stuck.rule)
        self._fold()

    def _fold(self) -> None:
        entries, self._read = self.tape.entries[self._read :], len(self.tape.entries)
        for recorded in (entry.recorded for entry in entries):
            event, batch_id = recorded.event, recorded.event.batch_id
            state = apply(self._folded.get(batch_id) or BatchState(batch_id), recorded)
            moved = moved_at(recorded)
            if moved is not None:
                self._moved[batch_id] = max(moved, self._moved.get(batch_id, moved))
            if state.is_live:
                self._folded[batch_id] = state
            else:
                self._folded.pop(batch_id, None)
            if isinstance(event, SampleGenerated) and event.usage.latency_ms and state.started:
                found = self._latencies.setdefault(state.spec.model, deque(maxlen=LATENCIES))
                found.append(event.usage.latency_ms)


def _p95_s(latencies_ms: Iterable[float]) -> float:
    ordered = sorted(latencies_ms)
    return ordered[(len(ordered) * 95 - 1) // 100] / 1000
