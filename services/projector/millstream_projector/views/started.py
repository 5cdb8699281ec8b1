"""Every batch that was started, as the tables have it: what the board is copied from."""

import duckdb

from millstream_projector.changes import Row
from millstream_projector.views.history import ENDS
from millstream_projector.views.paging import one

_COLUMNS = (
    "batch_id, started_seq, started_at, state, model, recipe, topic, target, generated, failed,"
    " abandoned, cost_nano_usd, view"
)


def survey(connection: duckdb.DuckDBPyConnection) -> tuple[int, list[int], dict[str, int]]:
    """Return the checkpoint, the sequences of all starts in order, and those of the ends."""
    connection.begin()
    try:
        as_of = one(connection, "SELECT seq FROM checkpoint")[0]
        starts = connection.execute(
            "SELECT started_seq FROM batches WHERE view IS NOT NULL ORDER BY 1"
        ).fetchall()
        ends = connection.execute(f"SELECT batch_id, end_seq FROM {ENDS}").fetchall()  # noqa: S608
    finally:
        connection.rollback()
    return as_of, [start for (start,) in starts], dict(ends)


def between(
    connection: duckdb.DuckDBPyConnection, *, low: int, high: int, ends: dict[str, int]
) -> list[Row]:
    """Return the rows of the batches whose starts lie from ``low`` to ``high``, in order."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM batches WHERE started_seq BETWEEN ? AND ?",  # noqa: S608
        [low, high],
    ).fetchall()
    names = _COLUMNS.split(", ")
    rows: list[Row] = [dict(zip(names, row, strict=True)) for row in found]
    return sorted(
        ({**row, "end_seq": ends.get(row["batch_id"])} for row in rows),
        key=lambda row: row["started_seq"],
    )
