"""A stream in the making: numbers and stamps events as the log would."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from millstream.domain.recorded import Recorded, microseconds
from millstream.eventlog.stored import Stored
from millstream_schemas import events
from millstream_schemas.envelope import BatchEvent

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """One event on a tape, and the last sequence that was on its subject before it."""

    recorded: Recorded[BatchEvent]
    expected: int

    @property
    def stored(self) -> Stored:
        """The message as a reader of the stream gets it."""
        event = self.recorded.event
        return Stored(
            self.recorded.sequence,
            microseconds(self.recorded.stored_at),
            event.subject,
            events.dump(event),
        )


class Tape:
    """One stream in the making: sequences from 1 on, and a clock that the scripts share."""

    def __init__(self, *, begin: datetime = BEGIN, step_s: float = 1.0) -> None:
        self.entries: list[Entry] = []
        self.now = begin
        self._step = timedelta(seconds=step_s)
        self._last: dict[str, int] = {}

    def wait(self, seconds: float) -> None:
        """Let time pass without an event."""
        self.now += timedelta(seconds=seconds)

    def append(self, event: BatchEvent) -> Recorded[BatchEvent]:
        """Record ``event`` as the next one of the stream."""
        self.now += self._step
        recorded = Recorded(len(self.entries) + 1, self.now, event)
        self.entries.append(Entry(recorded, self._last.get(event.subject, 0)))
        self._last[event.subject] = recorded.sequence
        return recorded

    @property
    def recorded(self) -> list[Recorded[BatchEvent]]:
        """Every event so far."""
        return [entry.recorded for entry in self.entries]

    @property
    def stored(self) -> list[Stored]:
        """Every event so far as stored bytes."""
        return [entry.stored for entry in self.entries]
