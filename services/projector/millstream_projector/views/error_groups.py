"""Errors of a batch in groups: messages that differ only in numbers, ids and names are one."""

from typing import Any

import duckdb

from millstream_projector.views.samples import as_utc

PLACEHOLDERS: tuple[tuple[str, str], ...] = (
    (r"https?://[^\s\"'<>)\]]+", "<url>"),
    (r"\"[^\"]*\"|\B'[^'\n]*'\B|`[^`]*`", "<text>"),
    # A word with a digit in it is an id: a request's, a key's, a host's.
    (r"[A-Za-z_-]+\d[\w-]*|\d[\w-]*[A-Za-z_][\w-]*", "<id>"),
    (r"\d+(?:[.,:/-]\d+)*", "<n>"),
    (r"\s+", " "),
)
"""What is put in the stead of what, one after the other; both Python and DuckDB read it."""

MESSAGE_MOST = 500
GIVEN_UP_MOST = 20
CATEGORY = (
    "coalesce(category, CASE WHEN rule = 'content_filter' THEN rule"
    " WHEN kind = 'rejected' THEN 'validation' END)"
)
"""Of an attempt's row; an answer that was refused carries the rule that it broke instead."""


def _normal(column: str) -> str:
    sql = f"left({column}, 2000)"
    for pattern, word in PLACEHOLDERS:
        quoted = pattern.replace("'", "''")
        sql = f"regexp_replace({sql}, '{quoted}', '{word}', 'g')"
    return f"left(trim({sql}), {MESSAGE_MOST})"


_SQL = f"""
WITH found AS (
  SELECT seq, stored_at, slot, attempt, kind, rule, message,
    {CATEGORY} AS category, {_normal("coalesce(message, '')")} AS text
  FROM attempts WHERE batch_id = ? AND kind IN ('attempt_failed', 'rejected', 'failed')
), groups AS (
  SELECT category, text, max(rule) AS rule,
    count(*) FILTER (kind <> 'failed') AS calls, count(*) FILTER (kind = 'failed') AS slots,
    list(slot ORDER BY seq) FILTER (kind = 'failed')[:{GIVEN_UP_MOST}] AS given_up,
    min(stored_at) AS first_seen, max(stored_at) AS last_seen,
    arg_max({{'message': left(message, 1000), 'slot': slot, 'attempt': attempt, 'seq': seq}}, seq)
      AS example
  FROM found GROUP BY category, text
)
SELECT left(md5(concat_ws(chr(31), category, text)), 12), *, count(*) OVER ()
FROM groups ORDER BY calls + slots DESC, last_seen DESC, text LIMIT ?
"""  # noqa: S608


def error_groups(
    connection: duckdb.DuckDBPyConnection, batch_id: str, limit: int
) -> tuple[list[dict[str, Any]], int]:
    """Return the largest groups as ErrorGroup bodies, and how many groups there are."""
    rows = connection.execute(_SQL, [batch_id, max(1, limit)]).fetchall()
    groups = [_group(row) for row in rows[:limit]]
    return groups, rows[0][-1] if rows else 0


def _group(row: tuple[Any, ...]) -> dict[str, Any]:
    fingerprint, category, text, rule, calls, slots, given_up, *rest = row
    first_seen, last_seen, example, _ = rest
    return {
        "fingerprint": fingerprint,
        "category": category,
        "rule": rule,
        "message": text,
        "count": calls,
        "failed_slots": slots,
        "given_up": given_up or [],
        "first_seen": as_utc(first_seen),
        "last_seen": as_utc(last_seen),
        "example": example["message"],
        "example_at": {
            "slot": example["slot"],
            "attempt": example["attempt"],
            "sequence": example["seq"],
        },
    }
