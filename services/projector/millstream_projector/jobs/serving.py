"""The jobs of a projector: started over NATS, fetched piece by piece, ended when nobody fetches."""

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import ValidationError

from millstream.errors import LogError, QueryFailedError
from millstream.eventlog.log import EventLog
from millstream.jobs.process import JobOrder, JobProcess, running_job
from millstream.runtime.clock import boot_seconds, new_id
from millstream_projector.group import Group
from millstream_projector.jobs.copies import Copies, check_room
from millstream_projector.past.moments import reach
from millstream_projector.progress import Progress
from millstream_projector.views.paging import RefusedError
from millstream_schemas import subjects
from millstream_schemas.exports import (
    PIECE_HEADER,
    ExportRequest,
    JobRequest,
    JobStart,
    JobTicket,
    PieceQuery,
    PieceState,
    SqlRequest,
)
from millstream_schemas.views import QueryError

log = structlog.get_logger()

JOBS_MOST = 2
"""At once: each has its own process beside the one that must keep up with the log."""
UNFETCHED_S = 15.0
"""A job that nobody has asked for so long is ended: whoever wanted it is gone."""
TICK_S = 1.0
WAIT_MOST_S = 2.0
OPENING_MOST_S = 60.0
GRACE_S = 5.0
"""A statement that does not heed its own time limit is ended by force so much later."""
HEADER_ROOM = 4096
ERROR_HEADER = "Millstream-Error"
ERROR_CODES = frozenset({"not_found", "invalid", "behind", "busy", "failed"})
STOPPING = "this projector is stopping; ask again"
COMMAND = (sys.executable, "-P", "-m", "millstream_projector.jobs.child")

_Reply: TypeAlias = tuple[bytes, dict[str, str]]


class _Running:
    """A job in hand; it ends when ``is_over`` is set."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.process: JobProcess | None = None
        self.ticket: asyncio.Future[JobTicket] = asyncio.get_running_loop().create_future()
        self.asked_at_s = boot_seconds()
        self.is_over = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Jobs:
    """Starts jobs for whoever asks, on copies of the live file."""

    def __init__(self, group: Group, copies: Copies, progress: Progress) -> None:
        self._connection = group.connection
        self._event_log = EventLog(group.connection)
        self._group = group
        self._copies = copies
        self._progress = progress
        self._address = subjects.jobs_at(new_id())
        self._running: dict[str, _Running] = {}
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Take requests while the block runs; jobs in hand end with it."""
        await asyncio.to_thread(self._copies.clear)
        try:
            async with asyncio.TaskGroup() as tasks:

                async def start(message: Msg) -> None:
                    # A handler holds up the next message, so it only starts a task.
                    tasks.create_task(self._answer(message, self._start(message, tasks)))

                async def take(message: Msg) -> None:
                    tasks.create_task(self._answer(message, self._take(message)))

                own = await self._connection.subscribe(f"{self._address}.*.*", cb=take)
                await self._group.serve(subjects.JOB_START, start)
                tidying = tasks.create_task(self._tidy())
                try:
                    yield
                finally:
                    tidying.cancel()
                    for running in self._running.values():
                        if running.task is not None:
                            running.task.cancel()
                    await self._group.leave(subjects.JOB_START)
                    try:
                        await own.unsubscribe()
                    except NatsError as error:  # the connection is gone
                        log.info("jobs.unsubscribe_failed", reason=str(error))
        finally:
            await asyncio.to_thread(self._copies.clear)

    async def _answer(self, message: Msg, work: Coroutine[Any, Any, _Reply]) -> None:
        headers: dict[str, str]
        try:
            body, headers = await work
        except QueryFailedError as error:
            code = error.code if error.code in ERROR_CODES else "failed"
            refused = QueryError.model_validate({"code": code, "message": str(error)})
            body, headers = refused.model_dump_json().encode(), {ERROR_HEADER: code}
        if not message.reply:  # such as the word that a job is over
            return
        try:
            await self._connection.publish(message.reply, body, headers=headers or None)
        except (NatsError, OSError) as error:  # whoever asked has timed out
            log.warning("job.reply_lost", subject=message.subject, reason=str(error))

    async def _start(self, message: Msg, tasks: asyncio.TaskGroup) -> _Reply:
        request = _parsed(JobStart, message.data).request
        if len(self._running) >= JOBS_MOST:
            raise QueryFailedError(
                "busy", f"{JOBS_MOST} jobs run at this projector; ask again when one has ended"
            )
        running = _Running(f"{self._address}.{next(self._numbers)}")
        self._running[running.address] = running
        running.task = tasks.create_task(self._run(running, request))
        ticket = await running.ticket
        return ticket.model_dump_json().encode(), {}

    async def _run(self, running: _Running, request: JobRequest) -> None:
        """Run one job until it is over: fetched, given up or left."""
        failure = QueryFailedError("busy", STOPPING)
        try:
            await self._work(running, request)
        except QueryFailedError as error:
            failure = error
        except TimeoutError:
            failure = QueryFailedError("failed", f"no job opens within {OPENING_MOST_S:g} s")
        finally:
            del self._running[running.address]
            if not running.ticket.done():
                running.ticket.set_exception(failure)
            log.info("job.ended", job=running.address, kind=request.kind)

    async def _work(self, running: _Running, request: JobRequest) -> None:
        sequence = await self._reached(request)
        may_be_old = isinstance(request, ExportRequest) and request.at_seq is not None
        async with self._copies.lent(sequence, may_be_old=may_be_old) as copy:
            directory = self._copies.directory / f"job-{running.address.rpartition('.')[2]}"
            order = JobOrder(request=request, source=str(copy.path), directory=str(directory))
            async with running_job(COMMAND, order) as process:
                log.info("job.started", job=running.address, kind=request.kind, as_of=copy.as_of)
                running.process = process
                async with asyncio.timeout(OPENING_MOST_S):
                    ticket = await process.opened(running.address)
                running.asked_at_s = boot_seconds()
                running.ticket.set_result(ticket)
                await self._watch(running, request)

    async def _reached(self, request: JobRequest) -> int:
        """Return the sequence that the job's copy must hold, once it is folded."""
        await self._progress.freshen(self._event_log)
        sequence = request.min_sequence
        if not await self._progress.wait_for(sequence, WAIT_MOST_S):
            raise QueryFailedError(
                "behind",
                f"sequence {sequence} is not folded yet: this projector is at"
                f" {self._progress.checkpoint}; ask again soon, or for an earlier one",
            )
        if not isinstance(request, ExportRequest) or request.at_seq is None:
            return sequence
        try:
            await reach(request.at_seq, self._event_log, self._progress, wait_s=WAIT_MOST_S)
        except RefusedError as error:
            raise QueryFailedError(error.code, str(error)) from error
        except LogError as error:
            raise QueryFailedError("busy", f"{error}; ask again") from error
        return max(sequence, request.at_seq)

    async def _watch(self, running: _Running, request: JobRequest) -> None:
        """Return once the job is over; one that nobody fetches from or that won't end is ended."""
        begun_s = boot_seconds()
        while not running.is_over.is_set():
            try:
                async with asyncio.timeout(TICK_S):
                    await running.is_over.wait()
            except TimeoutError:
                now_s = boot_seconds()
                if now_s - running.asked_at_s > UNFETCHED_S:
                    return
                await self._bound(running, request, now_s - begun_s)

    async def _bound(self, running: _Running, request: JobRequest, seconds: float) -> None:
        process = running.process
        if process is None or process.has_ended:
            return
        if isinstance(request, SqlRequest) and seconds > request.seconds_most + GRACE_S:
            words = f"the statement was ended after {request.seconds_most:g} s; ask for less"
            await process.kill("failed", words)
        try:
            await asyncio.to_thread(check_room, self._copies.directory, 0)
        except QueryFailedError as error:
            await process.kill(error.code, str(error))

    async def _take(self, message: Msg) -> _Reply:
        address, _, verb = message.subject.rpartition(".")
        running = self._running.get(address)
        if running is None or running.process is None:
            raise QueryFailedError("not_found", "this job has ended; start it again")
        running.asked_at_s = boot_seconds()
        if verb == "end":
            running.is_over.set()
            return b"", {}
        query = _parsed(PieceQuery, message.data)
        most_bytes = self._connection.max_payload - HEADER_ROOM
        piece = await running.process.piece(query.part, query.offset, most_bytes)
        state = PieceState(rows=piece.rows, is_last=piece.is_last)
        return piece.content, {PIECE_HEADER: state.model_dump_json()}

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            await self._copies.tidy()


KindT = TypeVar("KindT", JobStart, PieceQuery)


def _parsed(kind: type[KindT], payload: bytes) -> KindT:
    try:
        return kind.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "request"
        value = str(first.get("input"))[:80]
        raise QueryFailedError(
            "invalid", f"{field}={value!r} is not valid: {first['msg']}"
        ) from error
