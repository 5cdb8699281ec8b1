"""Filters, pages and cursors: how a query is cut to what one answer may hold."""

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import duckdb
import orjson

FACET_VALUES_MOST = 50
INT_MOST = 2**63 - 1


class RefusedError(Exception):
    """The query can't be answered as asked; ``code`` is one of QueryError's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def no_such_batch(batch_id: str) -> RefusedError:
    """Return the refusal of a query about a batch that was never started."""
    return RefusedError("not_found", f"batch_id={batch_id[:80]!r} is of no batch in the log")


def of_batch(connection: duckdb.DuckDBPyConnection, batch_id: str, columns: str) -> tuple[Any, ...]:
    """Return these columns of a batch.

    Raises:
        RefusedError: no such batch was ever started.
    """
    row = connection.execute(
        f"SELECT {columns} FROM batches WHERE batch_id = ? AND view IS NOT NULL",  # noqa: S608
        [batch_id],
    ).fetchone()
    if row is None:
        raise no_such_batch(batch_id)
    return row


def encode_cursor(sort: str, keys: Sequence[int]) -> str:
    """Return where a page ended, in the order ``sort``, as the opaque cursor of an answer."""
    return base64.urlsafe_b64encode(orjson.dumps([sort, *keys])).decode().rstrip("=")


def decode_cursor(cursor: str, sort: str, keys: int) -> list[int]:
    """Return the ``keys`` numbers of a cursor that was given for the order ``sort``.

    Raises:
        RefusedError: no answer ever gave this cursor, or one in another order did.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        found = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError) as error:
        raise _no_cursor(cursor) from error
    if not isinstance(found, list) or not found or not isinstance(found[0], str):
        raise _no_cursor(cursor)
    its_sort, *numbers = found
    if its_sort != sort:
        raise RefusedError(
            "invalid",
            f"cursor={cursor[:80]!r} is of a list sorted by {its_sort[:40]!r}, not by {sort!r};"
            " keep the sort while paging, or leave the cursor out to begin anew",
        )
    if len(numbers) != keys or any(type(number) is not int for number in numbers):
        raise _no_cursor(cursor)
    if not all(-1 <= number <= INT_MOST for number in numbers):
        raise RefusedError("invalid", f"cursor={cursor[:80]!r} lies outside the log")
    return numbers


def _no_cursor(cursor: str) -> RefusedError:
    return RefusedError(
        "invalid", f"cursor={cursor[:80]!r} is not one of an answer; leave it out to begin anew"
    )


def column_time(moment: datetime, name: str = "time") -> datetime:
    """Return ``moment`` as the tables' times are: in UTC, without a zone.

    Raises:
        RefusedError: it has no form in UTC; ``name`` is what the query calls it.
    """
    try:
        return moment.astimezone(UTC).replace(tzinfo=None)
    except OverflowError as error:
        words = f"{name}={moment.isoformat()} is beyond the calendar in UTC"
        raise RefusedError("invalid", f"{words}; give one of the years 1 to 9999") from error


class Filter:
    """Conditions joined by AND, with their values.

    A condition may bear the name of a filter that users set, so that a facet can leave it out.
    """

    def __init__(self, *conditions: str) -> None:
        self._parts: list[tuple[str, str, tuple[Any, ...]]] = [("", one, ()) for one in conditions]

    def add(self, condition: str, *values: Any, name: str = "") -> None:
        """Require ``condition`` too."""
        self._parts.append((name, condition, values))

    def without(self, name: str) -> "Filter":
        """Return the filter without the conditions called ``name``."""
        other = Filter()
        other._parts = [part for part in self._parts if part[0] != name]
        return other

    @property
    def names(self) -> set[str]:
        """The names of the filters that are set."""
        return {name for name, _, _ in self._parts if name}

    @property
    def values(self) -> list[Any]:
        """The values in the order of their question marks."""
        return [value for _, _, values in self._parts for value in values]

    def __str__(self) -> str:
        return " AND ".join(condition for _, condition, _ in self._parts) or "true"


def facets(
    connection: duckdb.DuckDBPyConnection, table: str, axes: dict[str, str], where: Filter
) -> dict[str, list[tuple[str, int]]]:
    """Return the values of each axis (name -> SQL expression), the most frequent first.

    The rows of an axis are those that all other filters leave. Axes without a filter of their
    own are counted in one pass.
    """
    groups: list[dict[str, str]] = [{name: axes[name]} for name in axes if name in where.names]
    plain = {name: axis for name, axis in axes.items() if name not in where.names}
    if plain:
        groups.append(plain)
    found: dict[str, list[tuple[str, int]]] = {name: [] for name in axes}
    for group in groups:
        rest = where.without(next(iter(group))) if group is not plain else where
        for index, value, count in _counted(connection, table, list(group.values()), rest):
            if value is not None:
                found[list(group)[index]].append((value, count))
    return found


def _counted(
    connection: duckdb.DuckDBPyConnection, table: str, axes: Sequence[str], where: Filter
) -> Iterable[tuple[int, str | None, int]]:
    """Return (number of the axis, value, count) for each value of the axes."""
    shown = ", ".join(f"{axis} AS axis_{number}" for number, axis in enumerate(axes))
    names = [f"axis_{number}" for number in range(len(axes))]
    chosen = " ".join(
        f"WHEN grouping({name}) = 0 THEN {number}" for number, name in enumerate(names)
    )
    sets = ", ".join(f"({name})" for name in names)
    return connection.execute(
        f"SELECT CASE {chosen} END AS axis, coalesce({', '.join(names)}) AS value,"  # noqa: S608
        f" count(*) AS rows FROM (SELECT {shown} FROM {table} WHERE {where})"
        f" GROUP BY GROUPING SETS ({sets}) ORDER BY axis, rows DESC, value",
        where.values,
    ).fetchall()


def tallies(found: dict[str, list[tuple[str, int]]]) -> dict[str, list[dict[str, Any]]]:
    """Return facets as an answer shows them: of each axis the most frequent values."""
    return {
        name: [{"name": value, "count": count} for value, count in values[:FACET_VALUES_MOST]]
        for name, values in found.items()
    }


@dataclass(frozen=True, slots=True)
class Listing:
    """What a page lists: columns of a table in the order of ``keys``, the last of them unique.

    All keys go one way. The rows are chosen by their keys alone, and their columns are read
    after that: they are much wider. ``size`` is SQL for the bytes of a row in the answer, and
    ``source`` is what the keys are taken from when ``table`` alone doesn't hold them.
    """

    table: str
    columns: str
    keys: tuple[str, ...]
    order: Literal["ASC", "DESC"]
    size: str
    source: str = ""

    def after(self, where: Filter, place: Sequence[int]) -> None:
        """Let the filter pass only what comes after ``place``, the keys of a row."""
        sign = "<" if self.order == "DESC" else ">"
        if len(self.keys) == 1:
            where.add(f"{self.keys[0]} {sign} ?", *place)
        else:
            first, second = self.keys
            condition = f"({first} {sign} ? OR ({first} = ? AND {second} {sign} ?))"
            where.add(condition, place[0], *place)

    def sql(self, where: Filter) -> str:
        """Return SQL of a page whose last values are the limit and the budget in bytes.

        Each row ends with its keys and with how many rows there were without the budget; the
        first row comes whatever its size.
        """
        unique = self.keys[-1]
        places = [f"key_{number}" for number in range(len(self.keys))]
        named = ", ".join(f"{key} AS {place}" for key, place in zip(self.keys, places, strict=True))
        order = "ORDER BY " + ", ".join(f"{place} {self.order}" for place in places)
        source = self.source or self.table
        return (
            f"WITH chosen AS MATERIALIZED (SELECT {named} FROM {source} WHERE {where}"  # noqa: S608
            f" {order} LIMIT ?),"
            f" found AS (SELECT {self.columns}, {', '.join(places)}, {self.size} AS size"
            f" FROM {self.table} JOIN chosen ON {self.table}.{unique} = chosen.{places[-1]})"
            " SELECT * EXCLUDE (size), count(*) OVER () AS rows_found FROM found"
            f" QUALIFY sum(size) OVER ({order}) <= ? OR row_number() OVER ({order}) = 1 {order}"
        )

    def place(self, row: Sequence[Any]) -> list[int]:
        """Return the keys of a row of the page."""
        return list(row[-1 - len(self.keys) : -1])


def cut(rows: list[Any], limit: int, listing: Listing, sort: str) -> tuple[list[Any], str | None]:
    """Return the rows that are shown, and the cursor after them when there are more."""
    shown = rows[:limit]
    has_more = bool(rows) and len(shown) < rows[0][-1]
    return shown, encode_cursor(sort, listing.place(shown[-1])) if has_more else None


def one(connection: duckdb.DuckDBPyConnection, sql: str, values: Sequence[Any] = ()) -> Any:
    """Return the only row of an aggregate."""
    return connection.execute(sql, list(values)).fetchall()[0]
