"""The samples: filtered, searched, counted and paged."""

from collections.abc import Sequence
from typing import Any

import duckdb
import orjson

from millstream_projector.changes import as_json
from millstream_projector.views.paging import (
    Filter,
    Listing,
    cut,
    decode_cursor,
    facets,
    of_batch,
    one,
    tallies,
)
from millstream_schemas import analysis, views
from millstream_schemas.redactions import REDACTED_CONTENT

LABEL = "concat(area, ' - ', topic)"
"""A topic as people choose it."""
COLUMNS = (
    "batch_id, slot, attempt, topic, area, difficulty, sample_type, model, provider, route,"
    " content, tokens_in, tokens_out, cost_nano_usd, latency_ms, first_token_ms, stored_at, seq"
)
_ROW_OVERHEAD = 700
"""Bytes of a SampleView besides its content and the texts of its cell, at most."""
_SIZE = f"strlen(content) + strlen(topic) + strlen(area) + {_ROW_OVERHEAD}"
LATEST_FIRST = Listing("samples", COLUMNS, ("seq",), "DESC", _SIZE)
_LISTINGS: dict[views.SampleSort, Listing] = {
    "stored": Listing("samples", COLUMNS, ("seq",), "ASC", _SIZE),
    "-stored": LATEST_FIRST,
}
_AXES = {
    "topics": LABEL,
    "difficulties": "difficulty",
    "sample_types": "sample_type",
    "models": "model",
}
_CURSORS: dict[views.SampleSort, str] = {"stored": "sequence", "-stored": "-sequence"}
"""What a cursor says of its order."""


def samples(
    connection: duckdb.DuckDBPyConnection, request: views.SamplesQuery, most_bytes: int
) -> dict[str, Any]:
    """Return the body of SamplePage.

    Raises:
        RefusedError: no such batch was ever started, or the cursor is none.
    """
    where = choose(request)
    if request.batch_id is not None:
        started_seq = started(connection, request.batch_id)
        # Sequences are what DuckDB skips by; a batch's id alone would be looked for everywhere.
        where.add("seq > ? AND batch_id = ?", started_seq, request.batch_id)
    listing, order = _LISTINGS[request.sort], _CURSORS[request.sort]
    place = None if request.cursor is None else decode_cursor(request.cursor, order, 1)
    counted = facets(connection, "samples", _AXES, where) if request.with_facets else {}
    total = one(connection, f"SELECT count(*) FROM samples WHERE {where}", where.values)[0]  # noqa: S608
    if place is not None:
        listing.after(where, place)
    rows = connection.execute(
        listing.sql(where), [*where.values, request.limit + 1, most_bytes]
    ).fetchall()
    shown, next_cursor = cut(rows, request.limit, listing, order)
    return {
        "samples": [sample(row) for row in shown],
        "next_cursor": next_cursor,
        "total": total,
        "facets": tallies(counted),
    }


def choose(request: views.SamplesQuery | analysis.SearchQuery) -> Filter:
    """Return what a query wants of samples: their axes, their model, their texts."""
    where = Filter()
    for name, column, value in (
        ("topics", LABEL, request.topic),
        ("difficulties", "difficulty", request.difficulty),
        ("sample_types", "sample_type", request.sample_type),
        ("models", "model", request.model),
    ):
        if value is not None:
            where.add(f"{column} = ?", value, name=name)
    if request.text:
        _search(where, request.text)
    return where


def started(connection: duckdb.DuckDBPyConnection, batch_id: str) -> int:
    """Return the sequence at which a batch was started.

    Raises:
        RefusedError: no such batch was ever started.
    """
    (started_seq,) = of_batch(connection, batch_id, "started_seq")
    return int(started_seq)


def sample(row: Sequence[Any]) -> dict[str, Any]:
    """Return a row of COLUMNS as a SampleView."""
    return {
        "id": f"{row[0]}-{row[1]}",
        "batch_id": row[0],
        "slot": row[1],
        "attempt": row[2],
        "topic": row[3],
        "area": row[4],
        "difficulty": row[5],
        "sample_type": row[6],
        "model": row[7],
        "provider": row[8],
        "route": row[9],
        "content": orjson.Fragment(row[10]),
        "usage": usage(row[11:16]),
        "created_at": as_utc(row[16]),
        "sequence": row[17],
    }


def usage(row: Sequence[Any]) -> dict[str, Any]:
    """Return tokens in and out, cost, latency and first token as a Usage."""
    names = ("tokens_in", "tokens_out", "cost_nano_usd", "latency_ms", "first_token_ms")
    return dict(zip(names, row, strict=True))


def as_utc(moment: Any) -> str | None:
    """Return a time of the tables as an answer shows it."""
    return None if moment is None else moment.isoformat() + "Z"


def _search(where: Filter, text: str) -> None:
    # The first test is quick and lets no sample slip through; the second looks at values
    # alone, since the names of the fields stand in every sample.
    where.add("contains(lower(content), lower(?))", as_json(text)[1:-1])
    where.add("content <> ?", as_json(REDACTED_CONTENT))  # it has no words of its own any more
    where.add(
        "len(list_filter(json_extract_string(content, '$.*'),"
        " lambda value: contains(lower(value), lower(?)))) > 0",
        text,
    )
