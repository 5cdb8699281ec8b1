"""One batch in figures: how fast it goes, when it will end, what it costs, what goes wrong."""

from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import orjson

from millstream_projector.views.error_groups import error_groups
from millstream_projector.views.paging import column_time, of_batch, one
from millstream_projector.views.sums import exact
from millstream_schemas import analysis, views

WINDOW_S = 60.0
PERCENTILES = "[0.5, 0.95, 0.99]"
_MOVING: frozenset[str] = frozenset({"running"})


def figures(
    connection: duckdb.DuckDBPyConnection,
    request: analysis.FiguresQuery,
    _most_bytes: int,
    at: datetime,
) -> dict[str, Any]:
    """Return the body of Figures, as of the moment ``at``.

    Raises:
        RefusedError: no such batch was ever started.
    """
    (stored,) = of_batch(connection, request.batch_id, "view")
    view = orjson.loads(stored)
    groups, group_count = error_groups(connection, request.batch_id, request.errors)
    latency, first_token = one(
        connection,
        f"SELECT quantile_cont(latency_ms, {PERCENTILES}),"  # noqa: S608
        f" quantile_cont(first_token_ms, {PERCENTILES}) FROM samples WHERE batch_id = ?",
        [request.batch_id],
    )
    pace = _pace(connection, view, at)
    return {
        "batch_id": request.batch_id,
        "at": at,
        **pace,
        "cost": cost(view["counts"], view["target"], is_final=view["state"] in views.FINAL_STATES),
        "latency_ms": percentiles(latency),
        "first_token_ms": percentiles(first_token),
        "errors": groups,
        "error_groups": group_count,
    }


def moment_of(
    connection: duckdb.DuckDBPyConnection, request: views.Query, now: datetime
) -> datetime:
    """Return the moment that figures are of: now, unless a moment of the past is asked for."""
    if request.at_time is not None or not request.is_past:
        return min(request.at_time or now, now)
    last = one(
        connection,
        "SELECT max(last) FROM (SELECT max(stored_at) AS last FROM samples UNION ALL"
        " SELECT max(stored_at) FROM attempts UNION ALL SELECT max(stored_at) FROM events)",
    )[0]
    return now if last is None else last.replace(tzinfo=UTC)


def _pace(
    connection: duckdb.DuckDBPyConnection, view: dict[str, Any], at: datetime
) -> dict[str, Any]:
    """Return rates and the time to the end; slots given up bring the end nearer too."""
    counts = view["counts"]
    ended = datetime.fromisoformat(view["finished_at"]) if view["finished_at"] else None
    since = one(
        connection,
        "SELECT min(stored_at) FROM events WHERE batch_id = ? AND type = 'slice.claimed.v1'",
        [view["id"]],
    )[0]
    nothing = {"rates": {"last_minute": None, "overall": None}, "eta_s": None, "eta_at": None}
    if since is None:
        return nothing
    seconds = (column_time(ended or at) - since).total_seconds()
    if seconds <= 0:
        return nothing
    overall = counts["generated"] / seconds
    if ended is not None:
        return nothing | {"rates": {"last_minute": None, "overall": round(overall, 4)}}
    window_s = min(WINDOW_S, seconds)
    begin = column_time(at) - timedelta(seconds=window_s)
    made = _since(connection, "samples", view["id"], begin)
    given_up = _since(connection, "attempts", view["id"], begin, " AND kind = 'failed'")
    resolved = counts["generated"] + counts["failed"]
    per_s = (made + given_up) / window_s or resolved / seconds
    eta_s = counts["pending"] / per_s if per_s and view["state"] in _MOVING else None
    return {
        "rates": {"last_minute": round(made / window_s, 4), "overall": round(overall, 4)},
        "eta_s": None if eta_s is None else round(eta_s, 1),
        "eta_at": None if eta_s is None else _later(at, eta_s),
    }


def _later(at: datetime, seconds: float) -> datetime | None:
    """Return the moment ``seconds`` after ``at``, None for one beyond the calendar."""
    try:
        return at + timedelta(seconds=seconds)
    except OverflowError:
        return None


def _since(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    batch_id: str,
    begin: datetime,
    condition: str = "",
) -> int:
    sql = f"SELECT count(*) FROM {table} WHERE batch_id = ? AND stored_at >= ?{condition}"  # noqa: S608
    return int(one(connection, sql, [batch_id, begin])[0])


def cost(counts: dict[str, Any], target: int, *, is_final: bool) -> dict[str, int | None]:
    """Return the body of Cost; what is projected grows with the slots that are left.

    Where some calls have no known price, only what is known to be spent can be told.
    """
    spent = counts["cost_nano_usd"]
    whole = None if counts.get("unpriced_calls") else spent
    resolved = counts["generated"] + counts["failed"]
    projected = None
    if whole is not None:
        if is_final:
            projected = whole
        elif resolved:
            projected = -(-whole * target // resolved)
    made = counts["generated"]
    found = {
        "spent_nano_usd": spent,
        "wasted_nano_usd": counts["wasted_nano_usd"],
        "projected_nano_usd": projected,
        "per_sample_nano_usd": None if whole is None or not made else -(-whole // made),
    }
    return {name: None if amount is None else exact(amount) for name, amount in found.items()}


def percentiles(found: list[float | None] | None) -> dict[str, float | None]:
    """Return the body of Percentiles from DuckDB's list, None for no values."""
    values = found or [None, None, None]
    return {
        name: None if value is None else round(value, 1)
        for name, value in zip(("p50", "p95", "p99"), values, strict=True)
    }
