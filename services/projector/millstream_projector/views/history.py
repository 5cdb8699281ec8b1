"""The history: batches filtered, sorted, counted and paged; as SQL, for any moment.

The one of the present is answered from memory (``board``), with the same answers.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import duckdb
import orjson

from millstream_projector.changes import END_TYPES
from millstream_projector.views.paging import (
    INT_MOST,
    Filter,
    Listing,
    RefusedError,
    column_time,
    cut,
    decode_cursor,
    facets,
    tallies,
)
from millstream_schemas import views

VIEW_SIZE = "strlen(view) + 1"
BATCHES = Listing("batches", "view", ("started_seq",), "DESC", VIEW_SIZE)
"""Newest first: what a list of batches is without another wish."""

AXES = {"states": "state", "models": "model", "recipes": "recipe", "topics": "topic"}
"""What is counted, under the names of the filters: columns."""
ENDS = (
    "(SELECT batch_id, max(seq) AS end_seq FROM events WHERE type IN"  # noqa: S608
    f" ({', '.join(repr(kind) for kind in END_TYPES)}) GROUP BY batch_id) AS ends"
)
KEYS = {
    "progress": "(1000000 * (generated + failed + abandoned)) // target",
    "cost": "cost_nano_usd",
    "samples": "generated",
    # A batch's own sequence may grow after its end, when something came late.
    "finished": "end_seq",
}
"""What is sorted by, as whole numbers: a cursor carries them."""


def history(
    connection: duckdb.DuckDBPyConnection, request: views.HistoryQuery, most_bytes: int
) -> dict[str, Any]:
    """Return the body of BatchPage.

    Raises:
        RefusedError: the cursor or the range of time makes no sense.
    """
    where = _filter(request)
    found = facets(connection, "batches", AXES, where)
    listing = _listing(request.sort)
    if request.cursor is not None:
        listing.after(where, decode_cursor(request.cursor, request.sort, len(listing.keys)))
    rows = connection.execute(
        listing.sql(where), [*where.values, request.limit + 1, most_bytes]
    ).fetchall()
    shown, next_cursor = cut(rows, request.limit, listing, request.sort)
    return page(request, [orjson.Fragment(row[0]) for row in shown], next_cursor, found)


def page(
    request: views.HistoryQuery,
    batches: Sequence[orjson.Fragment],
    next_cursor: str | None,
    found: dict[str, list[tuple[str, int]]],
) -> dict[str, Any]:
    """Return the body of BatchPage; ``found`` is how many batches have each value of each axis."""
    states = dict(sorted(found.pop("states")))
    chosen: Iterable[str] = request.states or states
    return {
        "batches": batches,
        "next_cursor": next_cursor,
        "total": sum(states.get(state, 0) for state in chosen),
        "states": states,
        "facets": tallies(found),
    }


def check_range(request: views.HistoryQuery) -> None:
    """Refuse a range of time that holds nothing.

    Raises:
        RefusedError: it ends before it begins.
    """
    after, before = request.started_after, request.started_before
    if after is not None and before is not None and after >= before:
        raise RefusedError(
            "invalid",
            f"started_after={after.isoformat()!r} is not before"
            f" started_before={before.isoformat()!r}; exchange them, or leave one out",
        )


def _filter(request: views.HistoryQuery) -> Filter:
    check_range(request)
    after, before = request.started_after, request.started_before
    where = Filter("view IS NOT NULL")
    if request.states:
        chosen = list(dict.fromkeys(request.states))
        where.add(f"state IN ({', '.join('?' * len(chosen))})", *chosen, name="states")
    for name, column, value in (
        ("models", "model", request.model),
        ("recipes", "recipe", request.recipe),
        ("topics", "topic", request.topic),
    ):
        if value is not None:
            where.add(f"{column} = ?", value, name=name)
    if after is not None:
        where.add("started_at >= ?", column_time(after, "started_after"))
    if before is not None:
        where.add("started_at < ?", column_time(before, "started_before"))
    if request.text:
        texts = ("batch_id", "model", "recipe", "topic")
        found = " OR ".join(f"contains(lower({column}), lower(?))" for column in texts)
        where.add(f"({found})", *[request.text] * len(texts))
    return where


def _listing(sort: views.Sort) -> Listing:
    order: Literal["ASC", "DESC"] = "DESC" if sort.startswith("-") else "ASC"
    name = sort.removeprefix("-")
    if name == "started":
        return Listing("batches", "view", ("started_seq",), order, VIEW_SIZE)
    table = "batches"
    if name == "finished":
        table = (
            "(SELECT batches.*, ends.end_seq FROM batches"  # noqa: S608
            f" LEFT JOIN {ENDS} USING (batch_id)) AS batches"
        )
    last = -1 if order == "DESC" else INT_MOST
    key = f"coalesce({KEYS[name]}, {last})"
    return Listing("batches", "view", (key, "started_seq"), order, VIEW_SIZE, source=table)
