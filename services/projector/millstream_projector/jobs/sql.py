"""One read-only statement of a person, on a file that nobody else writes.

The walls are DuckDB's own: the file is attached read-only, access to files, extensions and the
network is switched off, and the configuration is locked before the statement is looked at.
"""

import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import duckdb
import orjson

from millstream_projector.views.paging import RefusedError
from millstream_schemas.exports import SqlRequest

MEMORY_LIMIT = "512MB"
SPILL_LIMIT = "1GB"
"""What a large sort may put on the disk, removed with the job."""
OUTPUT_BYTES_MOST = 256 * 2**20
ROWS_TOGETHER = 2_000
_ALLOWED = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}

Tell = Callable[[int, int], None]


def open_copy(
    source: Path, directory: Path, *, memory_limit: str, writes_to: Path | None = None
) -> duckdb.DuckDBPyConnection:
    """Return a connection to the read model at ``source``, read-only, and to nothing else.

    Args:
        source: The file.
        directory: Where a statement may spill what its memory does not hold.
        memory_limit: In DuckDB's words.
        writes_to: A directory that COPY may write to; None: no files at all.

    Raises:
        duckdb.Error: it can't be opened.
    """
    config: dict[str, Any] = {
        "memory_limit": memory_limit,
        "threads": 2,
        "temp_directory": str(directory / "spilled"),
        "max_temp_directory_size": SPILL_LIMIT,
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    connection = duckdb.connect(":memory:", config=config)
    where = str(source).replace("'", "''")
    connection.execute(f"ATTACH '{where}' AS views (READ_ONLY)")
    connection.execute("USE views")
    connection.execute("SET enable_progress_bar = false")
    if writes_to is not None:
        allowed = str(writes_to).replace("'", "''")
        connection.execute(f"SET allowed_directories = ['{allowed}']")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def run_sql(
    connection: duckdb.DuckDBPyConnection, request: SqlRequest, output: IO[bytes], tell: Tell
) -> None:
    """Run the statement and write its rows to ``output`` as JSON lines.

    Raises:
        RefusedError: it is none that may run, it fails, or it takes too long.
        OSError: the disk takes no more.
    """
    _check(connection, request.statement)
    timer = threading.Timer(request.seconds_most, connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        _write(connection, request, output, tell)
    except duckdb.InterruptException as error:
        raise RefusedError(
            "failed",
            f"the statement was cut off after {request.seconds_most:g} s; ask for less, or allow"
            " more with --timeout",
        ) from error
    except duckdb.OutOfMemoryException as error:
        raise RefusedError(
            "failed",
            f"the statement needs more than its {MEMORY_LIMIT} of memory; ask for less, or"
            " aggregate before sorting",
        ) from error
    except duckdb.PermissionException as error:
        raise RefusedError(
            "invalid", f"SQL reads the tables of the read model alone: {_first_line(error)}"
        ) from error
    except duckdb.Error as error:
        raise RefusedError("invalid", f"the statement fails: {_words(error)}") from error
    finally:
        timer.cancel()


def _check(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    try:
        found = connection.extract_statements(statement)
    except duckdb.Error as error:
        raise RefusedError("invalid", f"the statement can't be read: {_words(error)}") from error
    if len(found) != 1:
        raise RefusedError("invalid", f"{len(found)} statements were given; give exactly one")
    if found[0].type not in _ALLOWED:
        kind = found[0].type.name
        raise RefusedError(
            "invalid", f"{kind} is not allowed: SQL only reads; begin with SELECT, FROM or WITH"
        )


def _write(
    connection: duckdb.DuckDBPyConnection, request: SqlRequest, output: IO[bytes], tell: Tell
) -> None:
    found = connection.execute(request.statement)
    described = found.description or []
    head = {
        "columns": [column[0] for column in described],
        "types": [str(column[1]) for column in described],
    }
    size = output.write(orjson.dumps(head) + b"\n")
    rows, is_cut = 0, False
    while not is_cut and (fetched := found.fetchmany(ROWS_TOGETHER)):
        if rows + len(fetched) > request.rows_most:
            fetched, is_cut = fetched[: request.rows_most - rows], True
        size += output.write(b"".join(_line(row) for row in fetched))
        rows += len(fetched)
        output.flush()
        tell(size, rows)
        if size > OUTPUT_BYTES_MOST:
            raise RefusedError(
                "failed",
                f"the answer is larger than {OUTPUT_BYTES_MOST / 2**20:g} MB; ask for fewer rows or"
                " columns, or use `millstream dataset export`",
            )
    size += output.write(orjson.dumps({"rows": rows, "is_cut": is_cut}) + b"\n")
    output.flush()
    tell(size, rows)


def _line(row: tuple[Any, ...]) -> bytes:
    try:
        return orjson.dumps(row, default=_plain, option=orjson.OPT_NON_STR_KEYS) + b"\n"
    except TypeError:  # an integer beyond 64 bits, which the sums of large tables are
        return orjson.dumps(_small(row), default=_plain, option=orjson.OPT_NON_STR_KEYS) + b"\n"


def _plain(value: Any) -> Any:
    match value:
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case Decimal() | UUID():
            return str(value)
        case set() | frozenset():
            return list(value)
        case _:
            return str(value)


def _small(value: Any) -> Any:
    """Return ``value`` with integers beyond 64 bits as text: many readers would round them."""
    match value:
        case int() if not -(2**63) <= value < 2**63:
            return str(value)
        case list() | tuple():
            return [_small(one) for one in value]
        case dict():
            return {str(name): _small(one) for name, one in value.items()}
        case str():
            return value.encode("utf-8", "replace").decode()
        case _:
            return value


def _words(error: duckdb.Error) -> str:
    return " ".join(str(error).split())[:1000]


def _first_line(error: duckdb.Error) -> str:
    return str(error).partition("\n")[0][:300]
