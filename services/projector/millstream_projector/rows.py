"""The columns of the append-only tables, made of events as they were read."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from millstream.eventlog.stored import Stored
from millstream_projector.changes import ATTEMPT_TYPES, Row, Taken, as_json
from millstream_projector.tables import Table
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.slices import AttemptEvent, SampleGenerated

Columns = dict[str, Sequence[Any]]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_US = 86_400_000_000


def plain_columns(table: Table, rows: Sequence[Row]) -> Columns:
    """Return the columns of rows that were made one by one."""
    return {name: [row.get(name) for row in rows] for name in table.columns}


def event_columns(found: Taken[BatchEvent]) -> Columns:
    """Return the columns of control events, notes and the like."""
    return {
        "seq": [item.sequence for item in found.stored],
        "stored_at": _microseconds(found.stored),
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
        "stored_at": _microseconds(stored),
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
        "tokens_in": [usage.tokens_in for usage in used],
        "tokens_out": [usage.tokens_out for usage in used],
        "cost_nano_usd": [usage.cost_nano_usd for usage in used],
        "latency_ms": [usage.latency_ms for usage in used],
        "first_token_ms": [usage.first_token_ms for usage in used],
        "request_id": [event.request_id for event in events],
        "prompt_hash": [event.prompt_hash for event in events],
    }


def _microseconds(stored: Sequence[Stored]) -> list[int]:
    ages = [item.stored_at - _EPOCH for item in stored]
    return [age.days * _DAY_US + age.seconds * 1_000_000 + age.microseconds for age in ages]
