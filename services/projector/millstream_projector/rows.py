"""Events on their way into the append-only tables: taken as they were read, packed into columns."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from millstream.eventlog.stored import Stored
from millstream_projector.changes import ATTEMPT_TYPES, Row, as_json
from millstream_projector.columns import Rows
from millstream_projector.tables import Table
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.slices import AttemptEvent, SampleGenerated

Columns = dict[str, Sequence[Any]]
EventT = TypeVar("EventT", bound=BatchEvent)


class Taken(Generic[EventT]):
    """Events on their way to become rows of one table.

    Three lists side by side (their messages, themselves, their types) rather than one of tuples:
    a tuple for each event is what keeps the garbage collector busy. ``pack`` lets go of them:
    to hold tens of thousands of events costs more than to read them.
    """

    __slots__ = ("_columns", "events", "kinds", "rows", "stored", "table")

    def __init__(self, table: Table, columns: "Callable[[Taken[EventT]], Columns]") -> None:
        """Begin without rows of ``table``; ``columns`` makes them."""
        self.stored: list[Stored] = []
        self.events: list[EventT] = []
        self.kinds: list[str] = []
        self.table = table
        self.rows = Rows(table.columns)
        self._columns = columns

    def add(self, stored: Stored, event: EventT, kind: str) -> None:
        """Add an event of type ``kind``."""
        self.stored.append(stored)
        self.events.append(event)
        self.kinds.append(kind)

    def pack(self) -> None:
        """Make rows of what was added."""
        if self.stored:
            self.rows.extend(self._columns(self))
            self.stored, self.events, self.kinds = [], [], []


def plain_columns(table: Table, rows: Sequence[Row]) -> Columns:
    """Return the columns of rows that were made one by one."""
    return {name: [row.get(name) for row in rows] for name in table.columns}


def event_columns(found: Taken[BatchEvent]) -> Columns:
    """Return the columns of control events, notes and the like."""
    return {
        "seq": [item.sequence for item in found.stored],
        "stored_at": [item.time_us for item in found.stored],
        "batch_id": [event.batch_id for event in found.events],
        "subject": [item.subject for item in found.stored],
        "type": found.kinds,
        "payload": [item.payload.decode("utf-8", "replace") for item in found.stored],
    }


def sample_columns(found: Taken[SampleGenerated]) -> Columns:
    """Return the columns of the samples of the dataset."""
    return {
        **_call_columns(found.stored, found.events),
        "finish_reason": [event.finish_reason for event in found.events],
        "content": [as_json(event.content) for event in found.events],
    }


def attempt_columns(found: Taken[AttemptEvent]) -> Columns:
    """Return the columns of the calls that gave no sample of the dataset."""
    return {
        **_call_columns(found.stored, found.events),
        "kind": [ATTEMPT_TYPES[kind] for kind in found.kinds],
        **{
            name: [getattr(event, name, None) for event in found.events]
            for name in ("finish_reason", "category", "rule", "message", "answer", "status_code")
        },
    }


def _call_columns(stored: Sequence[Stored], events: Sequence[AttemptEvent]) -> Columns:
    cells = [event.cell for event in events]
    used = [event.usage for event in events]
    return {
        "seq": [item.sequence for item in stored],
        "stored_at": [item.time_us for item in stored],
        "batch_id": [event.batch_id for event in events],
        "slice_index": [event.slice for event in events],
        "slot": [event.slot for event in events],
        "attempt": [event.attempt for event in events],
        "node": [event.after.node for event in events],
        "topic": [cell.topic for cell in cells],
        "area": [cell.area for cell in cells],
        "difficulty": [cell.difficulty for cell in cells],
        "sample_type": [cell.sample_type for cell in cells],
        "model": [event.model for event in events],
        "provider": [event.provider for event in events],
        "route": [event.route for event in events],
        "tokens_in": [usage.tokens_in for usage in used],
        "tokens_out": [usage.tokens_out for usage in used],
        "cost_nano_usd": [usage.cost_nano_usd for usage in used],
        "latency_ms": [usage.latency_ms for usage in used],
        "first_token_ms": [usage.first_token_ms for usage in used],
        "request_id": [event.request_id for event in events],
        "prompt_hash": [event.prompt_hash for event in events],
    }
