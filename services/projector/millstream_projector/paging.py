"""Filters, pages and cursors: how a query is cut to what one answer may hold."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import duckdb


class RefusedError(Exception):
    """The query can't be answered as asked; ``code`` is one of QueryError's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def no_such_batch(batch_id: str) -> RefusedError:
    """Return the refusal of a query about a batch that was never started."""
    return RefusedError("not_found", f"batch_id={batch_id[:80]!r} is of no batch in the log")


def encode_cursor(key: int) -> str:
    """Return ``key`` as the opaque cursor that a client hands back."""
    return base64.urlsafe_b64encode(str(key).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> int:
    """Return the key of a cursor.

    Raises:
        RefusedError: no answer ever gave this cursor.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        key = int(base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii"))
    except (binascii.Error, ValueError) as error:
        raise RefusedError(
            "invalid", f"cursor={cursor[:80]!r} is not one of an answer; leave it out to begin anew"
        ) from error
    if not 0 <= key < 2**63:
        raise RefusedError("invalid", f"cursor={cursor[:80]!r} lies outside the log")
    return key


class Filter:
    """Conditions joined by AND, with their values."""

    def __init__(self, *conditions: str) -> None:
        self.conditions = list(conditions)
        self.values: list[Any] = []

    def add(self, condition: str, *values: Any) -> None:
        """Require ``condition`` too."""
        self.conditions.append(condition)
        self.values.extend(values)

    def __str__(self) -> str:
        return " AND ".join(self.conditions) or "true"


@dataclass(frozen=True, slots=True)
class Listing:
    """What a page lists: columns of a table in the order of a unique key.

    ``size`` is an SQL expression for the bytes that a row takes in the answer.
    """

    table: str
    columns: str
    key: str
    order: Literal["ASC", "DESC"]
    size: str

    def sql(self, where: Filter) -> str:
        """Return SQL of a page whose last values are the limit and the budget in bytes.

        Each row ends with its key and with how many rows there were without the budget; the
        first row comes whatever its size.
        """
        order = f"ORDER BY page_key {self.order}"
        return (
            f"WITH found AS (SELECT {self.columns}, {self.key} AS page_key, {self.size} AS size"  # noqa: S608
            f" FROM {self.table} WHERE {where} ORDER BY {self.key} {self.order} LIMIT ?)"
            " SELECT * EXCLUDE (size), count(*) OVER () AS rows_found FROM found"
            f" QUALIFY sum(size) OVER ({order}) <= ? OR row_number() OVER ({order}) = 1 {order}"
        )


def cut(rows: list[Any], limit: int) -> tuple[list[Any], str | None]:
    """Return the rows that are shown, and the cursor after them when there are more."""
    shown = rows[:limit]
    has_more = bool(rows) and len(shown) < rows[0][-1]
    return shown, encode_cursor(shown[-1][-2]) if has_more else None


def one(connection: duckdb.DuckDBPyConnection, sql: str, values: Sequence[Any] = ()) -> Any:
    """Return the only row of an aggregate."""
    return connection.execute(sql, list(values)).fetchall()[0]
