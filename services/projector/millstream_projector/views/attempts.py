"""The attempts of one slot: why its sample exists, or why it has none."""

from typing import Any

import duckdb

from millstream_projector.views.error_groups import CATEGORY
from millstream_projector.views.paging import RefusedError, no_such_batch
from millstream_projector.views.samples import COLUMNS, as_utc, sample, usage
from millstream_schemas import analysis, views

ATTEMPTS_MOST = 500
"""Rate limits use no attempt, so a slot may have more of them than its batch allows attempts."""
_ROW_OVERHEAD = 900
_COLUMNS = (
    "seq",
    "stored_at",
    "kind",
    "slot",
    "attempt",
    "node",
    "model",
    "provider",
    "route",
    "category",
    "rule",
    "message",
    "answer",
    "status_code",
    "finish_reason",
    "request_id",
    "prompt_hash",
    "tokens_in",
    "tokens_out",
    "cost_nano_usd",
    "latency_ms",
    "first_token_ms",
)
_ONLY_ATTEMPTS = {"kind", "category", "rule", "message", "answer", "status_code"}


def _shown(table: str) -> str:
    if table == "attempts":
        own = {"category": f"{CATEGORY} AS category"}
        return ", ".join(own.get(name, name) for name in _COLUMNS)
    own = {"kind": "'generated' AS kind"}
    return ", ".join(
        own.get(name, f"NULL AS {name}") if name in _ONLY_ATTEMPTS else name for name in _COLUMNS
    )


_SQL = f"""
WITH found AS (
  SELECT {_shown("attempts")}, strlen(coalesce(answer, '')) + strlen(coalesce(message, '')) AS size
  FROM attempts WHERE batch_id = ? AND slot = ?
  UNION ALL
  SELECT {_shown("samples")}, 0 AS size FROM samples WHERE batch_id = ? AND slot = ?
)
SELECT *, count(*) OVER () AS rows_found FROM found
QUALIFY sum(size + {_ROW_OVERHEAD}) OVER (ORDER BY seq) <= ? OR row_number() OVER (ORDER BY seq) = 1
ORDER BY seq LIMIT {ATTEMPTS_MOST}
"""  # noqa: S608


def attempts(
    connection: duckdb.DuckDBPyConnection, request: analysis.SlotQuery, most_bytes: int
) -> dict[str, Any]:
    """Return the body of SlotAttempts.

    Raises:
        RefusedError: no such batch was ever started, or it has no such slot.
    """
    batch = connection.execute(
        "SELECT state, target, (view ->> '$.slice_size')::BIGINT FROM batches"
        " WHERE batch_id = ? AND view IS NOT NULL",
        [request.batch_id],
    ).fetchall()
    if not batch:
        raise no_such_batch(request.batch_id)
    state, target, slice_size = batch[0]
    if request.slot >= target:
        raise RefusedError(
            "not_found",
            f"slot={request.slot} is none of batch {request.batch_id}: give one from 0 to"
            f" {target - 1:,}",
        )
    place = [request.batch_id, request.slot]
    made = connection.execute(
        f"SELECT {COLUMNS} FROM samples WHERE batch_id = ? AND slot = ?",  # noqa: S608
        place,
    ).fetchall()
    content_bytes = len(made[0][10]) if made else 0
    rows = connection.execute(_SQL, [*place, *place, max(0, most_bytes - content_bytes)]).fetchall()
    axes = connection.execute(
        "SELECT any_value(concat(area, ' - ', topic)), any_value(difficulty),"
        " any_value(sample_type) FROM (FROM attempts UNION ALL BY NAME FROM samples)"
        " WHERE batch_id = ? AND slot = ?",
        place,
    ).fetchall()[0]
    shown = [_attempt(row) for row in rows]
    return {
        "batch_id": request.batch_id,
        "slot": request.slot,
        "slice_index": request.slot // slice_size,
        "topic": axes[0],
        "difficulty": axes[1],
        "sample_type": axes[2],
        "outcome": _outcome(state, {one["kind"] for one in shown}),
        "attempts": shown,
        "more": bool(rows) and rows[0][-1] > len(shown),
        "sample": sample(made[0]) if made else None,
    }


def _outcome(state: str, kinds: set[str]) -> str:
    """Return what became of the slot; what its batch left open when it ended is abandoned."""
    if "generated" in kinds:
        return "generated"
    if "failed" in kinds:
        return "failed"
    return "abandoned" if state in views.FINAL_STATES else "pending"


def _attempt(row: tuple[Any, ...]) -> dict[str, Any]:
    found = dict(zip(_COLUMNS[:17], row, strict=False))
    found["sequence"] = found.pop("seq")
    found["stored_at"] = as_utc(found["stored_at"])
    found["usage"] = usage(row[17:22])
    return found
