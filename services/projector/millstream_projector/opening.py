"""Opening the read model's file, or putting a bad one aside and beginning anew."""

from pathlib import Path

import duckdb
import structlog

from millstream.errors import MillstreamError
from millstream.eventlog.chain import GENESIS
from millstream_projector import tables
from millstream_projector.changes import as_json
from millstream_projector.restoring import load_live
from millstream_projector.room import is_full, refused
from millstream_projector.store import NO_PROGRESS_BAR, Store, wal_file

log = structlog.get_logger()

FILE = "views.duckdb"
MEMORY_LIMIT = "256MB"
ROW_GROUP_SIZE = 30_720
"""The default of 122,880 rewrites larger partial groups and bloats a file that grows live."""


class StoreLockedError(MillstreamError):
    """Another process has the read model open."""


class ForeignStoreError(MillstreamError):
    """The read model tells of another stream than the one that is followed."""


class _UnusableError(Exception):
    """The file is not a readable read model of this version."""


def open_store(
    data_dir: Path, *, stream: str, last_sequence: int, memory_limit: str = MEMORY_LIMIT
) -> Store:
    """Return the read model of the stream created at ``stream``, whose end is ``last_sequence``.

    A file that can't be used (another version's, or damaged) is put aside as
    ``views.duckdb.bad`` and an empty one takes its place: all of it can be made again.

    Raises:
        StoreLockedError: another process has it open.
        ForeignStoreError: it was made of another stream, or the stream ends before it does: the
            log that it came from may be lost, or this is the wrong NATS. It stays as it is.
        StoreError: the directory can't be written; DiskFullError when it has no room.
    """
    path = data_dir / FILE
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            try:
                return _open(path, memory_limit, stream, last_sequence)
            except _UnusableError as error:
                _put_aside(path, str(error))
        return _create(path, memory_limit, stream)
    except (OSError, duckdb.Error) as error:
        raise refused(path, "can't be made", error) from error


def _open(path: Path, memory_limit: str, stream: str, last_sequence: int) -> Store:
    connection = _connect(path, memory_limit)
    try:
        checkpoint, its_stream, refusal = _inspect(connection)
    except (duckdb.Error, LookupError, ValueError) as error:
        connection.close()
        if is_full(error):
            raise refused(path, "can't be opened", error) from error
        raise _UnusableError(str(error)) from error
    except BaseException:
        connection.close()
        raise
    is_foreign = its_stream != stream or checkpoint > last_sequence
    if refusal or is_foreign:
        connection.close()
    if refusal:
        raise _UnusableError(refusal)
    if is_foreign:
        raise ForeignStoreError(
            f"the read model at {path} is of the stream made at {its_stream} up to event"
            f" {checkpoint:,}, but the stream in NATS was made at {stream} and ends at event"
            f" {last_sequence:,}: check MILLSTREAM_NATS_URL, MILLSTREAM_DATA_DIR and NATS' own"
            " store. If the log was replaced on purpose, move the file away; a new one is made"
        )
    return Store(connection, path, checkpoint)


def _inspect(connection: duckdb.DuckDBPyConnection) -> tuple[int, str, str]:
    """Return checkpoint and stream, and why the file can't be used ("" when it can)."""
    row = connection.execute("SELECT seq, stream, schema_version FROM checkpoint").fetchone()
    if row is None:
        return 0, "", "it has no checkpoint"
    checkpoint, stream, version = row
    if version != tables.SCHEMA_VERSION:
        return 0, "", f"its tables have version {version}, not {tables.SCHEMA_VERSION}"
    load_live(connection)  # it must also be readable
    return checkpoint, stream, ""


def _create(path: Path, memory_limit: str, stream: str) -> Store:
    connection = _connect(path, memory_limit)
    try:
        for table in tables.TABLES:
            connection.execute(table.create)
        first = {
            "seq": 0,
            "stream": stream,
            "schema_version": tables.SCHEMA_VERSION,
            "root": GENESIS.hex(),
            "chained": 0,
        }
        connection.execute(tables.CHECKPOINT.insert, [[as_json(first)]])
        # DDL is moved into the file at once: replaying it from the log has had bugs.
        connection.execute("CHECKPOINT")
    except BaseException:
        connection.close()
        raise
    return Store(connection, path, 0)


def _connect(path: Path, memory_limit: str) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": memory_limit,
            "threads": 2,
            "temp_directory": str(path.with_name("views.tmp")),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "checkpoint_threshold": "1GB",  # ``tidy`` decides; this is the net below it
        },
    )
    try:
        where = str(path).replace("'", "''")
        connection.execute(f"ATTACH '{where}' AS views (ROW_GROUP_SIZE {ROW_GROUP_SIZE})")
        connection.execute("USE views")
        connection.execute("SET enable_external_access = false")
        connection.execute(NO_PROGRESS_BAR)
    except duckdb.Error as error:
        connection.close()
        if "lock on file" in str(error) or "already attached" in str(error):
            raise StoreLockedError(
                f"another process has {path} open ({_holder(error)}): stop it, or give this"
                " projector its own MILLSTREAM_DATA_DIR"
            ) from error
        if is_full(error):  # the file is whole, it is the disk that is not
            raise refused(path, "can't be opened", error) from error
        raise _UnusableError(str(error)) from error
    return connection


def _holder(error: duckdb.Error) -> str:
    text = str(error)
    return text[text.find("PID") :].partition(")")[0] if "PID" in text else "this one"


def _put_aside(path: Path, reason: str) -> None:
    bad = path.with_name(path.name + ".bad")
    log.warning("store.put_aside", file=str(path), kept_as=str(bad), reason=reason)
    for old, new in ((path, bad), (wal_file(path), wal_file(bad))):
        new.unlink(missing_ok=True)
        if old.exists():
            old.replace(new)
