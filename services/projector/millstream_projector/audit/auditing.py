"""Answers to the audit's queries: digests of the live tables, their rows, and a rebuild."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import duckdb

from millstream_projector.audit.digests import (
    SOURCES,
    bucket_hashes,
    bucket_sums,
    row_texts,
    table_digest,
)
from millstream_projector.audit.rebuilding import Rebuilder
from millstream_projector.audit.sealer import Sealer
from millstream_projector.progress import Progress
from millstream_projector.store import Store
from millstream_projector.views.paging import RefusedError, one
from millstream_schemas.audit import (
    CheckpointPage,
    CheckpointsQuery,
    Digests,
    RebuildQuery,
    Rows,
    RowsQuery,
)
from millstream_schemas.envelope import Contract

QUERY_BOUND_MS = 600_000
"""Digests of ten million samples take about half a minute."""


class Auditor:
    """Reads in a thread of its own, one query after the other, so that others don't wait."""

    def __init__(
        self,
        store: Store,
        progress: Progress,
        sealer: Sealer,
        rebuilder: Rebuilder,
        *,
        node: str,
    ) -> None:
        """Answer for the projector ``node``; its own subjects begin with ``address``."""
        self.address = rebuilder.address
        self._connection = store.reader()
        self._connection.execute(f"SET SESSION max_execution_time = {QUERY_BOUND_MS}")
        self._progress = progress
        self._sealer = sealer
        self._rebuilder = rebuilder
        self._checkpoints = sealer.checkpoints
        self._node = node
        self._is_busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="auditor")

    async def answer(self, request: Contract) -> bytes:
        """Return the answer to one of the audit's queries.

        Raises:
            RefusedError: another one is in hand, or it names something that is not there.
            LogError: the audit stream can't be read.
            duckdb.Error: the read model can't be read.
        """
        if isinstance(request, RebuildQuery):
            if request.start:
                self._rebuilder.request()
            status = self._rebuilder.status(self._progress.checkpoint)
            return status.model_dump_json().encode()
        if isinstance(request, CheckpointsQuery):
            return await self._checkpoints_page(request)
        if self._is_busy:
            raise RefusedError("busy", "this projector is answering another audit; ask again")
        self._is_busy = True
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._read, request)
        finally:
            self._is_busy = False

    async def _checkpoints_page(self, request: CheckpointsQuery) -> bytes:
        found, left = await self._checkpoints.page(request.cursor, request.limit)
        page = CheckpointPage(
            checkpoints=tuple(found),
            next_cursor=found[-1].sequence if left and found else None,
            alarm=self._sealer.alarm,
            as_of=self._progress.checkpoint,
        )
        return page.model_dump_json().encode()

    def _read(self, request: Contract) -> bytes:
        self._connection.begin()
        try:
            found: Contract
            if isinstance(request, RowsQuery):
                found = self._rows(request)
            else:
                alarm = self._sealer.alarm
                found = read_digests(self._connection, node=self._node, address=self.address)
                found = found.model_copy(update={"alarm": alarm})
            return found.model_dump_json().encode()
        except duckdb.InterruptException as error:
            raise RefusedError("busy", "this projector is stopping; ask again") from error
        finally:
            self._connection.rollback()

    def _rows(self, request: RowsQuery) -> Rows:
        as_of = one(self._connection, "SELECT seq FROM checkpoint")[0]
        if request.table not in SOURCES:
            raise RefusedError(
                "invalid",
                f"table={request.table[:80]!r} is not known; ask one of: {', '.join(SOURCES)}",
            )
        if request.keys:
            rows = row_texts(self._connection, request.table, request.keys, request.until)
        elif request.bucket is not None:
            rows = bucket_hashes(self._connection, request.table, request.bucket, request.until)
        else:
            raise RefusedError("invalid", "bucket=None is not valid without keys; give one of both")
        return Rows(rows=rows, as_of=as_of)

    def interrupt(self) -> None:
        """Cut off the query in hand: the file is about to be closed."""
        self._connection.interrupt()

    def close(self) -> None:
        """Cut off the query in hand and end the thread."""
        self.interrupt()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._connection.close()


def read_digests(connection: duckdb.DuckDBPyConnection, *, node: str, address: str = "") -> Digests:
    """Return the digests of all tables; ``connection`` must be in a transaction.

    Raises:
        duckdb.Error: they can't be read.
    """
    seq, stream, root, chained = one(
        connection, "SELECT seq, stream, root, chained FROM checkpoint"
    )
    return Digests(
        node=node,
        address=address,
        stream=stream,
        root=root,
        events=chained,
        tables={table: table_digest(bucket_sums(connection, table, seq)) for table in SOURCES},
        as_of=seq,
    )
