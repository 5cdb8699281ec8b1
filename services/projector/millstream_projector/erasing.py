"""Erasing texts from the read model: what a redaction changes in rows that were stored before.

After it, the rows are those of a fold that never saw the texts. It is the one change of rows that
are otherwise only added.
"""

from collections.abc import Sequence
from typing import Any

import duckdb
import orjson

from millstream.domain.redaction import silenced_slice
from millstream.eventlog.redaction import stand_ins_of
from millstream.eventlog.stored import Stored
from millstream_projector.changes import as_json
from millstream_schemas.events import MalformedEventError, UnknownEventError, parse
from millstream_schemas.redactions import SampleRedacted
from millstream_schemas.slices import SampleGenerated, SliceState


def erase(connection: duckdb.DuckDBPyConnection, redactions: Sequence[Stored]) -> None:
    """Put the stand-ins of ``redactions`` into the rows; once done, again changes nothing.

    Call it in the transaction that stores the redactions themselves, after their rows.

    Raises:
        duckdb.Error: the rows can't be changed.
    """
    for stored in redactions:
        for made in stand_ins_of(stored):
            _erase_one(connection, made)
        event = parse(stored.payload)
        if isinstance(event, SampleRedacted) and event.silences:
            _silence(connection, event.batch_id, event.silences)


def _erase_one(connection: duckdb.DuckDBPyConnection, made: Stored) -> None:
    try:
        event = parse(made.payload)
    except (MalformedEventError, UnknownEventError):
        return  # no row was made of it
    if isinstance(event, SampleGenerated):
        _erase_content(connection, event.batch_id, made.sequence, as_json(event.content))
    connection.execute(
        "UPDATE attempts SET message = ?, answer = ? WHERE seq = ?",
        [getattr(event, "message", None), getattr(event, "answer", None), made.sequence],
    )
    connection.execute(
        "UPDATE events SET payload = ? WHERE seq = ?",
        [made.payload.decode("utf-8", "replace"), made.sequence],
    )


def _erase_content(
    connection: duckdb.DuckDBPyConnection, batch_id: str, sequence: int, mark: str
) -> None:
    """Replace a sample's content; its texts no longer count in the batch's lengths."""
    rows = connection.execute("SELECT content FROM samples WHERE seq = ?", [sequence]).fetchall()
    if not rows:
        return
    connection.execute("UPDATE samples SET content = ? WHERE seq = ?", [mark, sequence])
    found = connection.execute(
        "SELECT lengths FROM batches WHERE batch_id = ?", [batch_id]
    ).fetchall()
    for (lengths,) in found:
        left = _shortened(orjson.loads(lengths), orjson.loads(rows[0][0]))
        connection.execute(
            "UPDATE batches SET lengths = ? WHERE batch_id = ?", [as_json(left), batch_id]
        )


def _shortened(lengths: dict[str, list[int]], content: dict[str, Any]) -> dict[str, list[int]]:
    """Return the lengths without one sample, by name: its order may have come from that sample."""
    left = dict(lengths)
    for name, value in content.items():
        if isinstance(value, str) and name in left:
            samples, characters = left[name]
            left[name] = [samples - 1, characters - len(value)]
    return {name: left[name] for name in sorted(left) if left[name][0] > 0}


def _silence(connection: duckdb.DuckDBPyConnection, batch_id: str, slots: Sequence[int]) -> None:
    """Take the messages of the slots' errors out of all rows of the batch's slices."""
    rows = connection.execute(
        "SELECT slice_index, seq, state FROM slice_states WHERE batch_id = ?"
        " AND contains(state, '\"last_error\"')",
        [batch_id],
    ).fetchall()
    for index, sequence, text in rows:
        state = SliceState.model_validate_json(text)
        silent = silenced_slice(state, slots)
        if silent is not state:
            connection.execute(
                "UPDATE slice_states SET state = ?"
                " WHERE batch_id = ? AND slice_index = ? AND seq = ?",
                [silent.model_dump_json(exclude_defaults=True), batch_id, index, sequence],
            )
