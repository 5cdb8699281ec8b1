"""The queries of the contract as SQL over the read model; answers are made as JSON text.

Views are stored as JSON, so a page is put together from texts without building a model per row.
Each query runs in one short read transaction: its rows and its ``as_of`` are of one moment.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import duckdb
import orjson

from millstream.runtime.clock import utc_now
from millstream_projector.past.as_of import Past
from millstream_projector.views.attempts import attempts
from millstream_projector.views.batch_figures import figures, moment_of
from millstream_projector.views.figures import quality, statistics
from millstream_projector.views.history import BATCHES, history
from millstream_projector.views.lanes import lanes
from millstream_projector.views.paging import Filter, RefusedError, of_batch, one
from millstream_projector.views.samples import samples
from millstream_projector.views.searching import search
from millstream_projector.views.timeline import timeline
from millstream_schemas import views
from millstream_schemas.envelope import Contract

QUERY_BOUND_MS = 5_000
STUCK_MOST = 10_000


def answer(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    request: Contract,
    *,
    most_bytes: int,
    past: Past | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> bytes:
    """Return the answer to query ``name`` as JSON of at most about ``most_bytes``.

    ``clock`` tells the time that the stream's stamps are compared with.

    Raises:
        LogError: ``past`` needs the log, which does not answer.
        RefusedError: the query names something that isn't there, or took too long.
        duckdb.Error: the read model can't be read.
    """
    connection.begin()
    try:
        if past is not None:
            past.enter(connection, name, request)
        as_of = one(connection, "SELECT seq FROM checkpoint")[0]
        if name in _AT_A_MOMENT:
            moment = request if isinstance(request, views.Query) else views.Query()
            at = moment_of(connection, moment, clock())
            body = _AT_A_MOMENT[name](connection, request, most_bytes, at)
        else:
            body = _ANSWERS[name](connection, request, most_bytes)
    except duckdb.InterruptException as error:
        raise RefusedError(
            "failed",
            f"the query was cut off after at most {QUERY_BOUND_MS / 1000:g} s; ask for one batch",
        ) from error
    finally:
        connection.rollback()
    return orjson.dumps({**body, "as_of": as_of})


def _batch(
    connection: duckdb.DuckDBPyConnection, request: views.BatchQuery, _most_bytes: int
) -> dict[str, Any]:
    (view,) = of_batch(connection, request.batch_id, "view")
    return {"batch": orjson.Fragment(view)}


def _stuck(
    connection: duckdb.DuckDBPyConnection, _request: views.PlainQuery, most_bytes: int
) -> dict[str, Any]:
    where = Filter("is_stuck", "view IS NOT NULL")
    rows = connection.execute(BATCHES.sql(where), [STUCK_MOST, most_bytes]).fetchall()
    return {"batches": [orjson.Fragment(row[0]) for row in rows]}


_ANSWERS: dict[str, Callable[[duckdb.DuckDBPyConnection, Any, int], dict[str, Any]]] = {
    "history": history,
    "batch": _batch,
    "samples": samples,
    "search": search,
    "attempts": attempts,
    "statistics": statistics,
    "stuck": _stuck,
    "quality": quality,
}
_AT_A_MOMENT: dict[
    str, Callable[[duckdb.DuckDBPyConnection, Any, int, datetime], dict[str, Any]]
] = {"figures": figures, "timeline": timeline, "lanes": lanes}
"""Answers that hang on how long ago something was."""
