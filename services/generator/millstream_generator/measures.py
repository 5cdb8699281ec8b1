"""What a generator tells of itself under /metrics; docs/operations.md has the table."""

from collections import Counter
from collections.abc import Iterable, Iterator

from millstream.runtime.metrics import Figure, plain
from millstream_schemas.slices import (
    AttemptEvent,
    SampleAbandoned,
    SampleAttemptFailed,
    SampleGenerated,
    SampleRejected,
    SliceEvent,
)


class Tally:
    """Counts calls as their events are stored: what a node paid for and can't prove is not here."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, ...]] = Counter()
        self.tokens: Counter[tuple[str, ...]] = Counter()
        self.nano_usd = 0
        self.unpriced = 0
        self.events = 0

    def note(self, events: Iterable[SliceEvent]) -> None:
        """Count what ``events``, which are stored, tell."""
        for event in events:
            self.events += 1
            outcome = _outcome(event)
            if outcome is None or not isinstance(event, AttemptEvent):
                continue
            self.calls[event.model, outcome] += 1
            usage = event.usage
            self.tokens["in",] += usage.tokens_in or 0
            self.tokens["out",] += usage.tokens_out or 0
            self.nano_usd += usage.cost_nano_usd or 0
            self.unpriced += usage.is_unpriced

    def figures(self) -> Iterator[Figure]:
        """Yield what was counted since the start of the process."""
        yield plain("millstream_events_stored_total", "Slice events stored.", self.events)
        yield Figure(
            "millstream_calls_total",
            "Calls by their end: generated, rejected, abandoned, or the category of the error.",
            {labels: float(number) for labels, number in sorted(self.calls.items())},
            ("model", "outcome"),
        )
        yield Figure(
            "millstream_tokens_total",
            "Tokens of these calls.",
            {labels: float(number) for labels, number in sorted(self.tokens.items())},
            ("direction",),
        )
        yield plain(
            "millstream_cost_usd_total", "Cost of these calls, as known.", self.nano_usd / 1e9
        )
        yield plain(
            "millstream_unpriced_calls_total",
            "Those of these calls that used tokens of unknown price.",
            self.unpriced,
        )


def _outcome(event: SliceEvent) -> str | None:
    match event:
        case SampleGenerated():
            return "generated"
        case SampleRejected():
            return "rejected"
        case SampleAttemptFailed():
            return event.category
        case SampleAbandoned():
            return "abandoned"
        case _:
            return None
