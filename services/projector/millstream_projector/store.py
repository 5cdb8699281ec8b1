"""The DuckDB file of the read model: opened by this process alone, rebuilt rather than repaired.

Rows and checkpoint change in one transaction, so after any crash the file is exactly the fold of
the log up to its checkpoint.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import duckdb
import structlog

from millstream.eventlog.chain import ChainState
from millstream_projector import tables
from millstream_projector.changes import Changes, as_json
from millstream_projector.erasing import erase
from millstream_projector.heads import Known
from millstream_projector.incoming import Incoming
from millstream_projector.restoring import LIVE, load_batch, load_live
from millstream_projector.room import StoreError, has_room, refused

log = structlog.get_logger()

__all__ = ["NO_PROGRESS_BAR", "Store", "StoreError", "wal_file"]

NO_PROGRESS_BAR = "SET SESSION enable_progress_bar = false"
"""DuckDB writes one to stdout when a statement takes two seconds."""
IDLE_CHECKPOINT_BYTES = 64 * 2**20
FORCED_CHECKPOINT_BYTES = 256 * 2**20


def wal_file(path: Path) -> Path:
    """Return where DuckDB keeps the write-ahead log of the database at ``path``."""
    return path.with_name(path.name + ".wal")


class Store:
    """The read model. Methods belong to one thread, the writer's, but for two of them.

    ``reader`` is anybody's; with ``load`` one other thread may load while this one writes.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, path: Path, checkpoint: int) -> None:
        """Take over what ``open_store`` has opened at ``path``."""
        self._connection = connection
        self._loader = connection.cursor()
        self._loader.execute("USE views")
        self._incoming = {table.name: Incoming(connection, table) for table in tables.APPENDED}
        self.path = path
        self.checkpoint = checkpoint
        self._has_erased = False
        self._postponed = ""

    def write(self, changes: Changes) -> None:
        """Store the changes and move the checkpoint: all or nothing.

        Changes at or below the checkpoint were stored before and change nothing.

        Raises:
            StoreError: nothing was stored.
        """
        if changes.checkpoint <= self.checkpoint:
            return
        try:
            with _transaction(self._connection):
                self._write(changes)
        except duckdb.Error as error:
            raise refused(self.path, "takes no rows", error) from error
        self.checkpoint = changes.checkpoint

    def _write(self, changes: Changes) -> None:
        moved = self._connection.execute(
            "UPDATE checkpoint SET seq = ?, root = ?, chained = ? WHERE seq = ?",
            [changes.checkpoint, changes.root.hex(), changes.chained, self.checkpoint],
        ).fetchone()
        if moved != (1,):
            raise StoreError(f"{self.path} is not at checkpoint {self.checkpoint}")
        if changes.batches:
            self._connection.execute(
                "DELETE FROM batches WHERE batch_id IN (SELECT unnest(?::VARCHAR[]))",
                [list(changes.batches)],
            )
            rows = [as_json(row) for row in changes.batches.values()]
            self._connection.execute(tables.BATCHES.insert, [rows])
        for table, appended in changes.appended:
            self._incoming[table.name].append(appended)
        if changes.redactions:
            erase(self._connection, changes.redactions)
            self._has_erased = True

    def load_chain(self) -> ChainState:
        """Return the hash chain as of the checkpoint; raises as ``load``."""
        with self._reading():
            rows = self._connection.execute("SELECT seq, root, chained FROM checkpoint").fetchall()
        sequence, root, events = rows[0]
        return ChainState(sequence, bytes.fromhex(root), events)

    def load(self, batch_id: str) -> Known | None:
        """Return the fold of one batch as of the checkpoint, None for one nobody has heard of.

        Raises:
            StoreError: the file can't be read.
        """
        with self._reading():
            return load_batch(self._loader, batch_id)

    def load_live(self) -> list[Known]:
        """Return the folds of all batches that have not ended; raises as ``load``."""
        with self._reading():
            return load_live(self._connection)

    def recent_latencies(self, limit: int) -> dict[str, list[float]]:
        """Return the last latencies (ms, oldest first) of each live batch's model."""
        with self._reading():
            rows = self._connection.execute(
                "SELECT batches.model, samples.latency_ms"  # noqa: S608
                " FROM samples JOIN batches USING (batch_id)"
                f" WHERE batches.phase IN {LIVE}"
                " AND samples.latency_ms IS NOT NULL"
                " QUALIFY row_number() OVER (PARTITION BY batches.model ORDER BY samples.seq DESC)"
                " <= ? ORDER BY samples.seq",
                [limit],
            ).fetchall()
        latencies: dict[str, list[float]] = {}
        for model, latency_ms in rows:
            latencies.setdefault(model, []).append(latency_ms)
        return latencies

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            raise StoreError(f"{self.path} can't be read: {error}") from error

    def tidy(self, *, idle: bool) -> bool:
        """Move DuckDB's write-ahead log into the file if it has grown; tell whether it was done.

        While events flow that waits until it must be (it stalls writing for about a second), but
        what was erased must not stand in the file for longer.
        A reader in the wrong moment only postpones it, and so does a disk that is nearly full.

        Raises:
            StoreError: it failed; the file must be opened anew, nothing is lost.
        """
        limit = IDLE_CHECKPOINT_BYTES if idle else FORCED_CHECKPOINT_BYTES
        wal_bytes = self.wal_bytes
        if wal_bytes < limit and not self._has_erased:
            return False
        # One that fails half-way takes the whole database down with it until it is opened anew.
        if not has_room(self.path, 2 * wal_bytes):
            self._postpone("the disk is nearly full")
            return False
        try:
            self._connection.execute("CHECKPOINT")
        except duckdb.TransactionException as error:
            self._postpone(str(error))
            return False
        except duckdb.Error as error:
            # Not for want of room as `DiskFullError` means it: waiting would not mend it.
            raise StoreError(f"{self.path} can't be brought up to date: {error}") from error
        self._has_erased = False
        self._postponed = ""
        return True

    def _postpone(self, reason: str) -> None:
        """Say why, once: it is tried again every second."""
        if reason != self._postponed:
            log.warning("checkpoint.postponed", reason=reason)
            self._postponed = reason

    @property
    def wal_bytes(self) -> int:
        """Size of DuckDB's write-ahead log."""
        try:
            return wal_file(self.path).stat().st_size
        except FileNotFoundError:
            return 0

    def reader(self) -> duckdb.DuckDBPyConnection:
        """Return a connection of its own for one reading thread."""
        cursor = self._connection.cursor()
        cursor.execute("USE views")
        cursor.execute(NO_PROGRESS_BAR)
        return cursor

    def finish(self) -> None:
        """Close the file with all of it in one piece, so that it can be moved.

        Raises:
            StoreError: the write-ahead log can't be moved into the file.
        """
        try:
            self._connection.execute("CHECKPOINT")
        except duckdb.Error as error:
            raise StoreError(f"{self.path} can't be finished: {error}") from error
        finally:
            self.close()

    def close(self) -> None:
        """Close the file; readers must have ended."""
        self._connection.close()


@contextlib.contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.begin()
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()
