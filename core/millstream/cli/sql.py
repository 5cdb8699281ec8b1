"""What `millstream sql` does: it has a statement run as a job, and prints the rows as they come."""

import asyncio
import csv
import json
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from millstream.cli.jobs import run_job
from millstream.errors import UsageError
from millstream.jobs.client import Job
from millstream_schemas.exports import SqlRequest

CELL_MOST = 80
"""Characters of a value in a table; json and csv print all of it."""
TABLE_ROWS_TOGETHER = 1_000
"""Rows of a table are aligned so many at a time."""

_SIGNED = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_NUMBERS = {"FLOAT", "DOUBLE", "DECIMAL", *_SIGNED, *(f"U{name}" for name in _SIGNED)}


def run_sql(
    nats: str | None,
    data: Path | None,
    statement: str | None,
    *,
    file: Path | None,
    form: str,
    rows_most: int,
    seconds_most: float,
    min_sequence: int,
) -> int:
    """Run a statement and print its rows; returns the exit code."""
    try:
        printer = _printer(form)
        request = _request(
            _statement(statement, file),
            rows_most=rows_most,
            seconds_most=seconds_most,
            min_sequence=min_sequence,
        )
    except UsageError as error:
        sys.stderr.write(f"millstream sql: {error}\n")
        return 2

    async def use(job: Job) -> int:
        await _print(job, printer, rows_most)
        return 0

    return run_job("sql", nats, data, request, use)


def _request(statement: str, **bounds: Any) -> SqlRequest:
    try:
        return SqlRequest(statement=statement, **bounds)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        value = str(first.get("input"))[:80]
        raise UsageError(f"{field}={value!r} is not valid: {first['msg']}", field=field) from error


def _statement(statement: str | None, file: Path | None) -> str:
    if (statement is None) == (file is None):
        raise UsageError(
            "give one statement: in quotes as the argument, or with --file (- is stdin)",
            field="statement",
        )
    if file is None:
        return statement or ""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--file {file} can't be read: {error}", field="file") from error
    return text.strip()


async def _print(job: Job, printer: "_Printer", rows_most: int) -> None:
    end: dict[str, Any] = {}
    async with aclosing(_lines(job)) as lines:
        head = json.loads(await anext(lines))
        printer.begin(head["columns"], head["types"])
        async for line in lines:
            found = json.loads(line)
            if isinstance(found, list):
                printer.row(found)
            else:
                end = found
    printer.end(end["rows"], job.ticket.as_of, is_cut=end["is_cut"])
    sys.stdout.flush()
    if end["is_cut"]:
        sys.stderr.write(
            f"millstream sql: only the first {rows_most:,} rows; more with --limit-rows\n"
        )


async def _lines(job: Job) -> AsyncGenerator[bytes, None]:
    rest = b""
    async with aclosing(job.pieces()) as pieces:
        async for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield line
            await asyncio.sleep(0)  # so that Ctrl-C is heard between two pieces


class _Printer(Protocol):
    def begin(self, columns: Sequence[str], types: Sequence[str]) -> None: ...

    def row(self, row: Sequence[Any]) -> None: ...

    def end(self, rows: int, as_of: int, *, is_cut: bool) -> None: ...


def _printer(form: str) -> _Printer:
    match form:
        case "table":
            return _Table()
        case "json":
            return _Json()
        case "csv":
            return _Csv()
        case _:
            raise UsageError(
                f"--format {form!r} is not known; give table, json or csv", field="format"
            )


class _Table:
    """Aligned columns for a terminal; long values are cut."""

    def __init__(self) -> None:
        self._columns: list[str] = []
        self._is_number: list[bool] = []
        self._waiting: list[list[str]] = []
        self._widths: list[int] = []

    def begin(self, columns: Sequence[str], types: Sequence[str]) -> None:
        self._columns = [_shown(column) for column in columns]
        self._is_number = [kind.partition("(")[0] in _NUMBERS for kind in types]

    def row(self, row: Sequence[Any]) -> None:
        self._waiting.append([_shown(value) for value in row])
        if len(self._waiting) == TABLE_ROWS_TOGETHER:
            self._flush()

    def end(self, rows: int, as_of: int, *, is_cut: bool) -> None:
        self._flush()
        words = "row" if rows == 1 else "rows"
        more = ", more were cut off" if is_cut else ""
        sys.stdout.write(f"({rows:,} {words}{more}, as of sequence {as_of:,})\n")

    def _flush(self) -> None:
        if not self._widths:
            rows = [self._columns, *self._waiting]
            self._widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            self._line(self._columns)
            sys.stdout.write("  ".join("-" * width for width in self._widths) + "\n")
        for row in self._waiting:
            self._line(row)
        self._waiting.clear()

    def _line(self, row: Sequence[str]) -> None:
        cells = [
            text.rjust(width) if is_number else text.ljust(width)
            for text, width, is_number in zip(row, self._widths, self._is_number, strict=True)
        ]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


class _Json:
    """One JSON document; rows are lists in the order of the columns."""

    def __init__(self) -> None:
        self._has_rows = False

    def begin(self, columns: Sequence[str], types: Sequence[str]) -> None:
        head = json.dumps({"columns": columns, "types": types}, ensure_ascii=False)
        sys.stdout.write(f'{head[:-1]}, "rows": [')

    def row(self, row: Sequence[Any]) -> None:
        sys.stdout.write(",\n" if self._has_rows else "\n")
        sys.stdout.write(json.dumps(row, ensure_ascii=False))
        self._has_rows = True

    def end(self, rows: int, as_of: int, *, is_cut: bool) -> None:
        last = json.dumps({"count": rows, "is_cut": is_cut, "as_of": as_of})
        sys.stdout.write(f"], {last[1:]}\n")


class _Csv:
    """Comma-separated values with a line of names; null is an empty field."""

    def __init__(self) -> None:
        self._writer = csv.writer(sys.stdout, lineterminator="\n")

    def begin(self, columns: Sequence[str], types: Sequence[str]) -> None:  # noqa: ARG002  # no types in CSV
        self._writer.writerow(columns)

    def row(self, row: Sequence[Any]) -> None:
        self._writer.writerow(
            [
                json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
                for value in row
            ]
        )

    def end(self, rows: int, as_of: int, *, is_cut: bool) -> None:
        """Nothing follows the rows."""


def _shown(value: Any) -> str:
    """Return a value as one line that can't move a terminal's cursor."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = "".join(sign if sign.isprintable() else " " for sign in text[: CELL_MOST * 4])
    return text if len(text) <= CELL_MOST else text[: CELL_MOST - 3] + "..."
