"""What one micro-batch of events changes in the tables, as rows."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from millstream.domain.batch_state import BatchState
from millstream.domain.view import batch_view
from millstream.eventlog.chain import GENESIS
from millstream.eventlog.stored import Stored
from millstream_projector.columns import ArrowRows
from millstream_projector.heads import Head, Known
from millstream_projector.tables import Table
from millstream_schemas import slices

Row = dict[str, Any]

ATTEMPT_TYPES = {
    "sample.generated.v1": "uncounted",
    "sample.attempt_failed.v1": "attempt_failed",
    "sample.rejected.v1": "rejected",
    "sample.failed.v1": "failed",
    "sample.abandoned.v1": "abandoned",
}
"""The events about one call, and the ``kind`` of those that are no sample of the dataset."""

END_TYPES = ("batch.completed.v1", "batch.stopped.v1", "batch.failed.v1")
"""The events that end a batch."""


@dataclass(slots=True)
class Changes:
    """Rows to insert, batches to replace, and the checkpoint that they lead to.

    ``root`` is the hash chain's at the checkpoint, over ``chained`` events. Rows that events
    became, and those of ``slice_states`` in the end, are ``appended`` as they are; ``ended`` are
    the sequences of batches' ends.
    """

    checkpoint: int = 0
    root: bytes = GENESIS
    chained: int = 0
    batches: dict[str, Row] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    slice_states: list[Row] = field(default_factory=list)
    appended: list[tuple[Table, ArrowRows]] = field(default_factory=list)
    redactions: list[Stored] = field(default_factory=list)

    def add(self, other: "Changes") -> None:
        """Take over what changes in other batches up to the same checkpoint."""
        self.batches |= other.batches
        self.ended |= other.ended
        self.appended += other.appended
        self.redactions = sorted([*self.redactions, *other.redactions], key=_sequence)

    def settle(self, known: Known, touched: set[int]) -> None:
        """Add the row of a batch, and of its ``touched`` slices, as they are at the end."""
        after = known.state
        self.batches[after.batch_id] = _batch_row(known)
        for index in sorted(touched):
            tail = after.slices.get(index)
            if tail is not None:
                self.slice_states.append(
                    {
                        "seq": tail.sequence,
                        "batch_id": after.batch_id,
                        "slice_index": index,
                        "late": slices.bitmap(tail.late),
                        "state": tail.state.model_dump_json(exclude_defaults=True),
                    }
                )


def as_json(value: Any) -> str:
    """Return ``value`` as JSON text that DuckDB can read, whatever a model has answered.

    A lone surrogate, which no valid text holds, becomes a question mark.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a lone surrogate, or an integer beyond 64 bits
        text = json.dumps(value, ensure_ascii=False, default=_plain)
        return text.encode("utf-8", "replace").decode()


def _sequence(stored: Stored) -> int:
    return stored.sequence


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def utc(moment: datetime | None) -> datetime | None:
    """Return ``moment`` in UTC without its zone, as the tables hold it."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment else None


def is_new_sample(event: slices.SampleGenerated, before: BatchState, after: BatchState) -> bool:
    """Tell whether this event gave its slot the first outcome, between two states of the fold."""
    if after.started is None or event.slice >= after.spec.slices:
        return False
    offset = event.slot - event.slice * after.spec.slice_size
    if not 0 <= offset < after.slice_size(event.slice):
        return False
    return _is_generated(after, event.slice, offset) and not _is_generated(
        before, event.slice, offset
    )


def _is_generated(state: BatchState, index: int, offset: int) -> bool:
    tail = state.slices.get(index)
    return tail is not None and bool(slices.bits(tail.state.generated) >> offset & 1)


def _batch_row(known: Known) -> Row:
    state = known.state
    first = known.first_sample
    row: Row = {
        "batch_id": state.batch_id,
        "phase": state.phase,
        "seq": state.sequence,
        "moved_at": utc(known.moved_at),
        "first_sample_seq": first and first.sequence,
        "first_sample_at": first and utc(first.stored_at),
        "first_sample_model": first and first.model,
        "first_sample_provider": first and first.provider,
        "lengths": as_json(dict(sorted(known.lengths.items()))),
        "head": Head.of(state).model_dump_json(exclude_defaults=True),
    }
    if state.started is None:
        return row
    view = batch_view(state)
    counts = view.counts
    return {
        **row,
        "started_seq": state.started.sequence,
        "started_at": utc(view.started_at),
        "state": view.state,
        "model": view.model,
        "provider": view.provider,
        "recipe": view.recipe,
        "topic": view.topic,
        "is_stuck": view.stuck is not None,
        "target": view.target,
        "generated": counts.generated,
        "failed": counts.failed,
        "abandoned": counts.abandoned,
        "rejected": counts.rejected,
        "tokens_in": counts.tokens_in,
        "tokens_out": counts.tokens_out,
        "cost_nano_usd": counts.cost_nano_usd,
        "unpriced_calls": counts.unpriced_calls,
        "view": view.model_dump_json(),
    }
