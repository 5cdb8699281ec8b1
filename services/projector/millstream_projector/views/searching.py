"""A search through the samples of all batches: step by step, each a short read of the live file.

A step looks through a stretch of the log after another, the latest first, until one of them holds
something or its time is over. What is left of the log is in its cursor: whoever asks sees how far
the search is, and ends it by not asking again. No step holds up the projection's own writing.
"""

from typing import Any

import duckdb

from millstream.runtime.clock import boot_seconds
from millstream_projector.views.paging import RefusedError, cut, decode_cursor, encode_cursor, one
from millstream_projector.views.samples import LATEST_FIRST, choose, sample
from millstream_schemas import analysis

STEP_S = 0.25
STRETCH = 122_880
"""Sequences: four of DuckDB's row groups where nearly every event is a sample."""
_ORDER = "search"


def search(
    connection: duckdb.DuckDBPyConnection, request: analysis.SearchQuery, most_bytes: int
) -> dict[str, Any]:
    """Return the body of SearchPage.

    Raises:
        RefusedError: the cursor is none that a search gave.
    """
    if request.cursor is None:
        until = one(connection, "SELECT seq FROM checkpoint")[0]
        before = until + 1
    else:
        until, before = _place(request.cursor)
    end_s = boot_seconds() + STEP_S
    shown: list[Any] = []
    while before > 1 and not shown:
        after = max(0, before - 1 - STRETCH)
        where = choose(request)
        where.add("seq > ? AND seq < ?", after, before)
        rows = connection.execute(
            LATEST_FIRST.sql(where), [*where.values, request.limit + 1, most_bytes]
        ).fetchall()
        shown, more = cut(rows, request.limit, LATEST_FIRST, _ORDER)
        before = LATEST_FIRST.place(shown[-1])[0] if more else after + 1
        if boot_seconds() >= end_s:
            break
    is_over = before <= 1
    return {
        "samples": [sample(row) for row in shown],
        "next_cursor": None if is_over else encode_cursor(_ORDER, [until, before]),
        "progress": 1.0 if is_over else 1 - (before - 1) / until,
    }


def _place(cursor: str) -> tuple[int, int]:
    """Return the sequence that a search began at, and the one before which it goes on."""
    until, before = decode_cursor(cursor, _ORDER, 2)
    if not 1 < before <= until + 1:
        raise RefusedError(
            "invalid", f"cursor={cursor[:80]!r} is not one of a search; leave it out to begin anew"
        )
    return until, before
