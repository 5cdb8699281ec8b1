"""Answers to queries over NATS request-reply: one of the projectors' group takes each request."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TypeVar

import duckdb
import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import ValidationError

from millstream.errors import LogError
from millstream.eventlog.log import EventLog
from millstream_projector.audit.auditing import Auditor
from millstream_projector.group import Group
from millstream_projector.log_pages import LogPages
from millstream_projector.past.as_of import Past
from millstream_projector.past.moments import Moments
from millstream_projector.progress import Progress
from millstream_projector.store import Store
from millstream_projector.views import queries
from millstream_projector.views.board import Board
from millstream_projector.views.paging import RefusedError
from millstream_schemas import analysis, audit, lanes, subjects, views
from millstream_schemas.envelope import Contract

log = structlog.get_logger()

READERS = 4
REQUESTS_MOST = 64
"""Requests in hand at once, those that wait for a sequence too; more are answered ``busy``."""
WAIT_MOST_S = 2.0
ENVELOPE_BYTES = 20_000
"""Kept free in an answer for what stands around the rows."""
ERROR_HEADER = "Millstream-Error"

ResultT = TypeVar("ResultT")


class Readers:
    """Threads that read, each with a connection of its own; results are fetched at once."""

    def __init__(
        self, store: Store, *, clock: Callable[[], datetime], threads: int = READERS
    ) -> None:
        """Make the threads; their connections open with their first query.

        ``clock`` tells the time that the stream's stamps are compared with.
        """
        self._store = store
        self._clock = clock
        self._own = threading.local()
        self._open: list[duckdb.DuckDBPyConnection] = []
        self._is_closing = False
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="reader")

    async def answer(
        self, name: str, request: Contract, most_bytes: int, past: Past | None = None
    ) -> bytes:
        """Return the answer to a query, as of ``past``; raises as ``queries.answer``."""

        def read(connection: duckdb.DuckDBPyConnection) -> bytes:
            return queries.answer(
                connection, name, request, most_bytes=most_bytes, past=past, clock=self._clock
            )

        return await self.find(read)

    async def find(self, read: Callable[[duckdb.DuckDBPyConnection], ResultT]) -> ResultT:
        """Return what ``read`` finds in one of the threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._read, read)

    def _read(self, read: Callable[[duckdb.DuckDBPyConnection], ResultT]) -> ResultT:
        if self._is_closing:
            raise RefusedError("busy", "this projector is stopping; ask again")
        connection: duckdb.DuckDBPyConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._store.reader()
            connection.execute(f"SET SESSION max_execution_time = {queries.QUERY_BOUND_MS}")
            self._own.connection = connection
            self._open.append(connection)
        return read(connection)

    def interrupt(self) -> None:
        """Cut off the queries in hand and take no more: the process ends."""
        self._is_closing = True
        for connection in self._open:
            connection.interrupt()

    def close(self) -> None:
        """End the threads."""
        self.interrupt()
        self._threads.shutdown(wait=True, cancel_futures=True)


class Answerer:
    """Takes requests, waits until the projection is far enough, and replies."""

    def __init__(
        self,
        group: Group,
        readers: Readers,
        board: Board,
        progress: Progress,
        auditor: Auditor,
    ) -> None:
        """Serve what the parts find; of what all are asked only what ``group`` lets through."""
        self._connection = group.connection
        self._group = group
        self._board = board
        self._auditor = auditor
        self._readers = readers
        self._progress = progress
        self._event_log = EventLog(self._connection)
        self._log_pages = LogPages(self._event_log)
        self._moments = Moments(self._event_log, progress, readers.find, wait_s=WAIT_MOST_S)
        self._in_hand = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer requests while the block runs; those in hand at its end get an answer."""
        async with asyncio.TaskGroup() as tasks:

            async def take(message: Msg) -> None:
                # A handler holds up the next message, so it only starts a task.
                if self._in_hand >= REQUESTS_MOST:
                    error = RefusedError(
                        "busy", f"{REQUESTS_MOST} queries are in hand; ask again in a second"
                    )
                    await self._refuse(message, error)
                    return
                self._in_hand += 1
                tasks.create_task(self._handle(message))

            # What must be asked of this projector and no other.
            own = await self._connection.subscribe(f"{self._auditor.address}.*", cb=take)
            await self._group.serve(subjects.query("*"), take)
            try:
                yield
            finally:
                self._readers.interrupt()
                self._auditor.interrupt()
                await self._group.leave(subjects.query("*"))
                try:
                    await own.unsubscribe()
                except NatsError as error:  # the connection is gone, and the interest with it
                    log.info("queries.unsubscribe_failed", reason=str(error))

    async def _handle(self, message: Msg) -> None:
        try:
            await self._reply(message, await self._answer(message))
        except RefusedError as error:
            await self._refuse(message, error)
        except (duckdb.Error, LogError) as error:
            log.error("query.failed", subject=message.subject, reason=str(error))  # noqa: TRY400
            await self._refuse(message, RefusedError("failed", f"the query failed: {error}"))
        except Exception:
            # A fault of ours: whoever asked is told, and nobody else's queries end with it.
            log.exception("query.failed", subject=message.subject)
            words = "the query failed; the projector's log says why"
            await self._refuse(message, RefusedError("failed", words))
        finally:
            self._in_hand -= 1

    async def _answer(self, message: Msg) -> bytes:
        name = message.subject.rpartition(".")[2]
        known = views.QUERIES | analysis.QUERIES | lanes.QUERIES | audit.QUERIES
        if name not in known:
            names = ", ".join(sorted(known))
            raise RefusedError("invalid", f"query={name[:80]!r} is not known; ask one of: {names}")
        request = _parse(known[name][0], message.data)
        await self._progress.freshen(self._event_log)
        sequence = getattr(request, "min_sequence", 0)
        if not await self._progress.wait_for(sequence, WAIT_MOST_S):
            raise RefusedError(
                "behind",
                f"min_sequence={sequence} is not folded yet: this projector is at"
                f" {self._progress.checkpoint}; ask again in a second",
            )
        if name in audit.QUERIES:
            return await self._auditor.answer(request)
        most_bytes = self._connection.max_payload - ENVELOPE_BYTES
        past = await self._moments.past(request)
        if isinstance(request, views.EventsQuery):
            as_of = past.sequence if past else self._progress.checkpoint
            return await self._log_pages.answer(request, as_of, most_bytes)
        if isinstance(request, views.HistoryQuery) and past is None:
            found = self._board.history(request, most_bytes)
            if found is not None:
                return found
        return await self._readers.answer(name, request, most_bytes, past)

    async def _refuse(self, message: Msg, refusal: RefusedError) -> None:
        body = views.QueryError.model_validate({"code": refusal.code, "message": str(refusal)})
        headers = {ERROR_HEADER: refusal.code}
        await self._reply(message, body.model_dump_json().encode(), headers)

    async def _reply(
        self, message: Msg, body: bytes, headers: dict[str, str] | None = None
    ) -> None:
        if not message.reply:
            log.warning("query.without_reply", subject=message.subject)
            return
        try:
            await self._connection.publish(message.reply, body, headers=headers)
        except (NatsError, OSError) as error:  # whoever asked has timed out and asks again
            log.warning("query.reply_lost", subject=message.subject, reason=str(error))


def _parse(kind: type[Contract], payload: bytes) -> Contract:
    try:
        return kind.model_validate_json(payload or b"{}")
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "request"
        value = str(first.get("input"))[:80]
        raise RefusedError("invalid", f"{field}={value!r} is not valid: {first['msg']}") from error
