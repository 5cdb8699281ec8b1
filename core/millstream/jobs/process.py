"""A job as a child process: told what to do on stdin, it writes files and says how far it is.

The child reads one line from stdin and then waits there for the end: when whoever runs it dies,
even by a kill, it ends too. It prints one JSON line on stdout per step.
"""

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millstream.errors import MillstreamError, QueryFailedError
from millstream_schemas.envelope import Contract
from millstream_schemas.exports import JobRequest, JobTicket

LINE_LIMIT = 2**20
STOP_BOUND_S = 2.0
PIECE_WAIT_S = 1.0
"""An empty piece is answered after so long, so that progress is seen while nothing is written."""


class JobOrder(Contract):
    """What a child is told: the request, the file to read, and a directory of its own."""

    request: JobRequest
    source: str
    directory: str


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of an output, how many rows are written by now, and whether nothing follows."""

    content: bytes
    rows: int
    is_last: bool


class JobProcess:
    """A running child; made by ``running_job``."""

    def __init__(self, child: asyncio.subprocess.Process, directory: Path) -> None:
        """Follow ``child``, which writes into ``directory``."""
        self._child = child
        self._files = {name: directory / name for name in ("output", "card")}
        self._moved = asyncio.Condition()
        self._opened: dict[str, Any] | None = None
        self._written = 0
        self._rows = 0
        self._is_done = False
        self._failure: QueryFailedError | None = None

    async def opened(self, address: str = "") -> JobTicket:
        """Return the ticket, once the child has opened its file and understood its task.

        Raises:
            QueryFailedError: it refused.
        """
        async with self._moved:
            await self._moved.wait_for(lambda: self._opened is not None or self._failure)
        if self._opened is None:
            raise self._failure or QueryFailedError("failed", "the job has not begun")
        return JobTicket(address=address, **self._opened)

    async def piece(self, part: str, offset: int, most_bytes: int) -> Piece:
        """Return what follows ``offset``; empty when nothing came within a second.

        Raises:
            QueryFailedError: the job failed, or was refused.
        """

        def is_there() -> bool:
            return self._is_done or self._failure is not None or self._has(part, offset)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PIECE_WAIT_S), self._moved:
                await self._moved.wait_for(is_there)
        if self._failure is not None:
            raise self._failure
        if not self._has(part, offset) and not self._is_done:
            return Piece(b"", self._rows, is_last=False)
        is_done, rows = self._is_done, self._rows
        return await asyncio.to_thread(
            _read, self._files[part], offset, most_bytes, rows=rows, is_done=is_done
        )

    def _has(self, part: str, offset: int) -> bool:
        return part == "output" and self._written > offset

    async def follow(self) -> None:
        """Take in what the child says until it ends."""
        stdout = self._child.stdout
        while stdout is not None and (line := await stdout.readline()):
            await self._take(json.loads(line))
        code = await self._child.wait()
        if not self._is_done and self._failure is None:
            words = f"the process of this job ended with code {code}; it may lack memory"
            await self._take({"refused": {"code": "failed", "message": words}})

    async def _take(self, told: dict[str, Any]) -> None:
        async with self._moved:
            if "refused" in told:
                self._failure = QueryFailedError(**told["refused"])
            elif "opened" in told:
                self._opened = told["opened"]
            else:
                self._written, self._rows = told["bytes"], told["rows"]
                self._is_done = told.get("is_done", False)
            self._moved.notify_all()

    async def kill(self, code: str, message: str) -> None:
        """End the job by force, failed with these words."""
        await self._take({"refused": {"code": code, "message": message}})
        if self._child.returncode is None:
            self._child.kill()

    @property
    def has_ended(self) -> bool:
        """Whether the child has nothing more to do."""
        return self._is_done or self._failure is not None


def _read(path: Path, offset: int, most_bytes: int, *, rows: int, is_done: bool) -> Piece:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read(most_bytes)
            is_last = is_done and file.tell() == os.fstat(file.fileno()).st_size
    except FileNotFoundError:  # a job without a card
        return Piece(b"", rows, is_last=is_done)
    return Piece(content, rows, is_last=is_last)


@contextlib.asynccontextmanager
async def running_job(command: Sequence[str], order: JobOrder) -> AsyncIterator[JobProcess]:
    """Run ``command`` for the time of the block; its directory is removed at the end.

    Raises:
        QueryFailedError: the process can't be started.
    """
    directory = Path(order.directory)
    try:
        await asyncio.to_thread(directory.mkdir, parents=True)
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_LIMIT,
            start_new_session=True,  # Ctrl-C is for whoever asked, who then ends the job
        )
    except OSError as error:
        shutil.rmtree(directory, ignore_errors=True)
        raise QueryFailedError("failed", f"no job can be started: {error}") from error
    job = JobProcess(child, directory)
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(job.follow())
            try:
                await _tell(child, order)
                yield job
            except (MillstreamError, OSError) as error:
                failure = error  # a task group would wrap it in a group of one
            finally:
                await _end(child)
                following.cancel()
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
    if failure is not None:
        raise failure


async def _tell(child: asyncio.subprocess.Process, order: JobOrder) -> None:
    if child.stdin is not None:
        with contextlib.suppress(ConnectionError):  # it has died, and ``follow`` says so
            child.stdin.write(order.model_dump_json().encode() + b"\n")
            await child.stdin.drain()


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.stdin is not None:
        child.stdin.close()
    if child.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    try:
        async with asyncio.timeout(STOP_BOUND_S):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()
