"""What statistics over time tell of whole batches, out of their table: it has a row for each."""

from datetime import datetime
from typing import Any

import duckdb

from millstream_projector.views.batch_figures import PERCENTILES, percentiles
from millstream_projector.views.paging import Filter, one
from millstream_schemas import analysis

UNPRICED = "(unpriced_calls > 0 OR (cost_nano_usd IS NULL AND tokens_in + tokens_out > 0))"
"""Batches that used tokens whose price is not known: all of them, or those of some calls. The
events of older versions do not tell of single calls."""
_WAITED_MS = "greatest(0, date_diff('microsecond', started_at, first_sample_at)) / 1000"


def first_samples(
    connection: duckdb.DuckDBPyConnection,
    request: analysis.TimelineQuery,
    begin: datetime,
    end: datetime,
) -> list[dict[str, Any]]:
    """Return a FirstSampleRow for each model of each provider, or for each provider.

    Batches count whose first sample came between ``begin`` and ``end``, as columns have times.
    """
    where = _asked(request)
    where.add("first_sample_at >= ? AND first_sample_at < ?", begin, end)
    model = "first_sample_model" if request.by == "model" else "NULL"
    rows = connection.execute(
        f"SELECT {model} AS model, first_sample_provider AS provider, count(*),"  # noqa: S608
        f" quantile_cont({_WAITED_MS}, {PERCENTILES})"
        f" FROM batches WHERE {where} GROUP BY ALL ORDER BY ALL",
        where.values,
    ).fetchall()
    return [
        {
            "model": model,
            "provider": provider,
            "batches": batches,
            "first_sample_ms": percentiles(waited),
        }
        for model, provider, batches, waited in rows
    ]


def unpriced_batches(
    connection: duckdb.DuckDBPyConnection,
    request: analysis.TimelineQuery,
    begin: datetime,
    end: datetime,
) -> int:
    """Return how many batches of unknown price made samples around that time."""
    where = _asked(request)
    where.add(f"{UNPRICED} AND moved_at >= ? AND first_sample_at < ?", begin, end)
    sql = f"SELECT count(*) FROM batches WHERE {where}"  # noqa: S608
    return int(one(connection, sql, where.values)[0])


def _asked(request: analysis.TimelineQuery) -> Filter:
    """Return the filter by what made a batch's first sample."""
    where = Filter()
    for column, asked in (
        ("first_sample_model", request.model),
        ("first_sample_provider", request.provider),
        ("batch_id", request.batch_id),
    ):
        if asked is not None:
            where.add(f"{column} = ?", asked)
    return where
