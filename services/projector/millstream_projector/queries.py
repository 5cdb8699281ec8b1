"""The queries of the contract as SQL over the read model; answers are made as JSON text.

Views are stored as JSON, so a page is put together from texts without building a model per row.
Each query runs in one short read transaction: its rows and its ``as_of`` are of one moment.
"""

from collections.abc import Callable, Sequence
from typing import Any

import duckdb
import orjson

from millstream_projector.changes import as_json
from millstream_projector.figures import quality, statistics
from millstream_projector.paging import (
    Filter,
    Listing,
    RefusedError,
    cut,
    decode_cursor,
    no_such_batch,
    one,
)
from millstream_schemas import views
from millstream_schemas.envelope import Contract

QUERY_BOUND_MS = 5_000
STUCK_MOST = 10_000
_ROW_OVERHEAD = 700
"""Bytes of a SampleView besides its content and the texts of its cell, at most."""


def answer(
    connection: duckdb.DuckDBPyConnection, name: str, request: Contract, *, most_bytes: int
) -> bytes:
    """Return the answer to query ``name`` as JSON of at most about ``most_bytes``.

    Raises:
        RefusedError: the query names something that isn't there, or took too long.
        duckdb.Error: the read model can't be read.
    """
    connection.begin()
    try:
        as_of = one(connection, "SELECT seq FROM checkpoint")[0]
        body = _ANSWERS[name](connection, request, most_bytes)
    except duckdb.InterruptException as error:
        raise RefusedError(
            "failed",
            f"the query was cut off after at most {QUERY_BOUND_MS / 1000:g} s; ask for one batch",
        ) from error
    finally:
        connection.rollback()
    return orjson.dumps({**body, "as_of": as_of})


_BATCHES = Listing("batches", "view", "started_seq", "DESC", "strlen(view) + 1")


def _history(
    connection: duckdb.DuckDBPyConnection, request: views.HistoryQuery, most_bytes: int
) -> dict[str, Any]:
    where = Filter("view IS NOT NULL")
    if request.model is not None:
        where.add("model = ?", request.model)
    if request.recipe is not None:
        where.add("recipe = ?", request.recipe)
    if request.text:
        where.add(
            "contains(lower(concat_ws(chr(10), batch_id, model, recipe, topic)), lower(?))",
            request.text,
        )
    states = dict(
        connection.execute(
            f"SELECT state, count(*) FROM batches WHERE {where} GROUP BY state ORDER BY state",  # noqa: S608
            where.values,
        ).fetchall()
    )
    total = sum(states.values())
    if request.states:
        where.add("state IN (SELECT unnest(?::VARCHAR[]))", list(request.states))
        total = sum(count for state, count in states.items() if state in request.states)
    if request.cursor is not None:
        where.add("started_seq < ?", decode_cursor(request.cursor))
    rows = connection.execute(
        _BATCHES.sql(where), [*where.values, request.limit + 1, most_bytes]
    ).fetchall()
    shown, next_cursor = cut(rows, request.limit)
    return {
        "batches": [orjson.Fragment(row[0]) for row in shown],
        "next_cursor": next_cursor,
        "total": total,
        "states": states,
    }


def _batch(
    connection: duckdb.DuckDBPyConnection, request: views.BatchQuery, _most_bytes: int
) -> dict[str, Any]:
    return {"batch": orjson.Fragment(_view(connection, request.batch_id))}


def _view(connection: duckdb.DuckDBPyConnection, batch_id: str) -> str:
    rows = connection.execute(
        "SELECT view FROM batches WHERE batch_id = ? AND view IS NOT NULL", [batch_id]
    ).fetchall()
    if not rows:
        raise no_such_batch(batch_id)
    return str(rows[0][0])


_SAMPLE_COLUMNS = (
    "batch_id, slot, attempt, topic, area, difficulty, sample_type, model, provider, content,"
    " tokens_in, tokens_out, cost_nano_usd, latency_ms, first_token_ms, stored_at"
)
_SAMPLES = Listing(
    "samples",
    _SAMPLE_COLUMNS,
    "seq",
    "ASC",
    f"strlen(content) + strlen(topic) + strlen(area) + {_ROW_OVERHEAD}",
)


def _samples(
    connection: duckdb.DuckDBPyConnection, request: views.SamplesQuery, most_bytes: int
) -> dict[str, Any]:
    where = Filter()
    if request.batch_id is not None:
        _view(connection, request.batch_id)
        where.add("batch_id = ?", request.batch_id)
    if request.text:
        # The first test is quick and lets no sample slip through; the second looks at values
        # alone, since the names of the fields stand in every sample.
        where.add("contains(lower(content), lower(?))", as_json(request.text)[1:-1])
        where.add(
            "len(list_filter(json_extract_string(content, '$.*'),"
            " lambda value: contains(lower(value), lower(?)))) > 0",
            request.text,
        )
    total = one(connection, f"SELECT count(*) FROM samples WHERE {where}", where.values)[0]  # noqa: S608
    if request.cursor is not None:
        where.add("seq > ?", decode_cursor(request.cursor))
    rows = connection.execute(
        _SAMPLES.sql(where), [*where.values, request.limit + 1, most_bytes]
    ).fetchall()
    shown, next_cursor = cut(rows, request.limit)
    return {
        "samples": [_sample(row) for row in shown],
        "next_cursor": next_cursor,
        "total": total,
    }


def _sample(row: Sequence[Any]) -> dict[str, Any]:
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
        "content": orjson.Fragment(row[9]),
        "usage": {
            "tokens_in": row[10],
            "tokens_out": row[11],
            "cost_nano_usd": row[12],
            "latency_ms": row[13],
            "first_token_ms": row[14],
        },
        "created_at": row[15].isoformat() + "Z",
        "sequence": row[16],
    }


def _stuck(
    connection: duckdb.DuckDBPyConnection, _request: views.PlainQuery, most_bytes: int
) -> dict[str, Any]:
    where = Filter("is_stuck", "view IS NOT NULL")
    rows = connection.execute(_BATCHES.sql(where), [STUCK_MOST, most_bytes]).fetchall()
    return {"batches": [orjson.Fragment(row[0]) for row in rows]}


_ANSWERS: dict[str, Callable[[duckdb.DuckDBPyConnection, Any, int], dict[str, Any]]] = {
    "history": _history,
    "batch": _batch,
    "samples": _samples,
    "statistics": statistics,
    "stuck": _stuck,
    "quality": quality,
}
