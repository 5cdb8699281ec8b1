"""Making the fold of a batch again from the stored rows."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb
import orjson

from millstream.domain.batch_state import SliceTail
from millstream.domain.recorded import Recorded
from millstream_projector.heads import FirstSample, Head, Known, restore
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.events import parse
from millstream_schemas.slices import SliceState, bits

LIVE = "('active', 'paused', 'stopping')"
"""The phases of batches that were started and have not ended."""
_COLUMNS = (
    "batch_id, head, moved_at, lengths,"
    " first_sample_seq, first_sample_at, first_sample_model, first_sample_provider"
)


def load_batch(connection: duckdb.DuckDBPyConnection, batch_id: str) -> Known | None:
    """Return the fold of one batch, None if there is no row of it."""
    found = _load(
        connection,
        connection.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE batch_id = ?",  # noqa: S608
            [batch_id],
        ).fetchall(),
    )
    return found[0] if found else None


def load_live(connection: duckdb.DuckDBPyConnection) -> list[Known]:
    """Return the folds of all batches that were started and have not ended."""
    return _load(
        connection,
        connection.execute(
            f"SELECT {_COLUMNS} FROM batches"  # noqa: S608
            f" WHERE phase IN {LIVE} ORDER BY started_seq"
        ).fetchall(),
    )


def first_sample(
    sequence: int | None, stored_at: datetime | None, model: str, provider: str
) -> FirstSample | None:
    """Return what the columns ``first_sample_`` of a batch tell; None for one without a sample."""
    if sequence is None or stored_at is None:
        return None
    return FirstSample(sequence, stored_at.replace(tzinfo=UTC), model, provider)


def _load(connection: duckdb.DuckDBPyConnection, rows: Sequence[tuple[Any, ...]]) -> list[Known]:
    if not rows:
        return []
    heads = {batch_id: Head.model_validate_json(head) for batch_id, head, *_ in rows}
    kept = _kept_events(connection, heads)
    tails = _tails(connection, list(heads))
    return [
        Known(
            restore(batch_id, heads[batch_id], kept, tails[batch_id]),
            moved_at.replace(tzinfo=UTC) if moved_at else None,
            {name: (samples, characters) for name, (samples, characters) in _pairs(lengths)},
            first_sample(*first),
        )
        for batch_id, _, moved_at, lengths, *first in rows
    ]


def _pairs(lengths: str) -> Iterable[tuple[str, tuple[int, int]]]:
    pairs: dict[str, tuple[int, int]] = orjson.loads(lengths)
    return pairs.items()


def _kept_events(
    connection: duckdb.DuckDBPyConnection, heads: dict[str, Head]
) -> dict[int, Recorded[BatchEvent]]:
    sequences = [sequence for head in heads.values() for sequence in head.event_sequences]
    rows: list[Any] = connection.execute(
        "SELECT seq, stored_at, payload FROM events WHERE seq IN (SELECT unnest(?::BIGINT[]))",
        [sequences],
    ).fetchall()
    return {
        sequence: Recorded(sequence, stored_at.replace(tzinfo=UTC), parse(payload.encode()))
        for sequence, stored_at, payload in rows
    }


def _tails(
    connection: duckdb.DuckDBPyConnection, batch_ids: list[str]
) -> dict[str, list[tuple[int, SliceTail]]]:
    tails: dict[str, list[tuple[int, SliceTail]]] = defaultdict(list)
    rows = connection.execute(
        "SELECT batch_id, slice_index, max(seq), arg_max(state, seq), arg_max(late, seq)"
        " FROM slice_states WHERE batch_id IN (SELECT unnest(?::VARCHAR[]))"
        " GROUP BY batch_id, slice_index",
        [batch_ids],
    ).fetchall()
    for batch_id, index, sequence, state, late in rows:
        tail = SliceTail(sequence, SliceState.model_validate_json(state), bits(late))
        tails[batch_id].append((index, tail))
    return tails
