"""The queries that count: the whole dataset in numbers, and the look of one batch."""

from typing import Any

import duckdb

from millstream_projector.restoring import LIVE
from millstream_projector.views.by_batch import UNPRICED
from millstream_projector.views.paging import Filter, of_batch, one
from millstream_projector.views.running import average_lengths, tally
from millstream_projector.views.samples import LABEL
from millstream_projector.views.sums import exact_sum
from millstream_schemas import views

_AXES = {
    "difficulties": "difficulty",
    "topics": LABEL,
    "sample_types": "sample_type",
    "models": "model",
}


_USED = ("tokens_in", "tokens_out", "cost_nano_usd", "unpriced_batches")


def _sums(condition: str) -> str:
    """Return SQL for the samples of the batches that meet ``condition``, and for ``_USED``."""
    return (
        f"coalesce(sum(generated) FILTER ({condition}), 0)::BIGINT,"
        f" coalesce({exact_sum('tokens_in', condition)}, 0),"
        f" coalesce({exact_sum('tokens_out', condition)}, 0),"
        f" {exact_sum('cost_nano_usd', condition)},"
        f" count(*) FILTER ({condition} AND {UNPRICED})"
    )


_ALL_AND_LIVE = f"SELECT {_sums('true')}, {_sums(f'phase IN {LIVE}')} FROM batches"  # noqa: S608


def _tally(
    connection: duckdb.DuckDBPyConnection, axis: str, where: Filter
) -> list[tuple[str, int]]:
    """Return the values of an axis and how many samples have each, most frequent first."""
    return connection.execute(
        f"SELECT {_AXES[axis]} AS name, count(*) FROM samples WHERE {where}"  # noqa: S608
        " GROUP BY name ORDER BY count(*) DESC, name",
        where.values,
    ).fetchall()


def _average_lengths(connection: duckdb.DuckDBPyConnection, where: Filter) -> dict[str, float]:
    rows = connection.execute(
        "SELECT key, round(sum((value ->> 1)::BIGINT) / sum((value ->> 0)::BIGINT), 2)"  # noqa: S608
        f" FROM (SELECT lengths FROM batches WHERE {where}) AS chosen, json_each(chosen.lengths)"
        " GROUP BY key ORDER BY key",
        where.values,
    ).fetchall()
    return dict(rows)


def statistics(
    connection: duckdb.DuckDBPyConnection, _request: views.PlainQuery, _most_bytes: int
) -> dict[str, Any]:
    """Return the body of Statistics: tokens and cost cover every attempt, all else samples."""
    states = dict(
        connection.execute(
            "SELECT state, count(*) FROM batches WHERE view IS NOT NULL GROUP BY state ORDER BY 1"
        ).fetchall()
    )
    sums = one(connection, _ALL_AND_LIVE)
    middle = len(sums) // 2
    tallies = tally(connection, _AXES)
    return {
        "total": one(connection, "SELECT count(*) FROM samples")[0],
        "batches": sum(states.values()),
        "states": states,
        **{
            axis: [{"name": name, "count": count} for name, count in tally]
            for axis, tally in tallies.items()
        },
        "average_lengths": average_lengths(connection),
        "unique_topics": len(tallies["topics"]),
        **dict(zip(_USED, sums[1:middle], strict=True)),
        "live": dict(zip(("samples", *_USED), sums[middle:], strict=True)),
    }


def quality(
    connection: duckdb.DuckDBPyConnection, request: views.BatchQuery, _most_bytes: int
) -> dict[str, Any]:
    """Return the body of Quality; tokens are those of the samples alone.

    Raises:
        RefusedError: no such batch was ever started.
    """
    where = Filter()
    where.add("batch_id = ?", request.batch_id)
    rejected, failed = of_batch(connection, request.batch_id, "rejected, failed")
    total, tokens = one(
        connection,
        "SELECT count(*), coalesce("  # noqa: S608
        + exact_sum("coalesce(tokens_in, 0)::HUGEINT + coalesce(tokens_out, 0)")
        + ", 0)"
        " FROM samples WHERE batch_id = ?",
        where.values,
    )
    return {
        "batch_id": request.batch_id,
        "total_samples": total,
        "total_tokens": tokens,
        "average_tokens": round(tokens / total, 2) if total else 0.0,
        "average_lengths": _average_lengths(connection, where),
        **{
            axis: dict(_tally(connection, axis, where))
            for axis in ("difficulties", "topics", "sample_types")
        },
        "rejected": rejected,
        "failed": failed,
    }
