"""Jobs at a projector, over NATS: started there, their output fetched piece by piece."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from nats.aio.msg import Msg
from pydantic import ValidationError

from millstream.errors import LogError, LogUnavailableError, QueryFailedError
from millstream.eventlog.answers import Answers
from millstream.jobs.process import JobProcess, Piece
from millstream_schemas import subjects
from millstream_schemas.exports import (
    PIECE_HEADER,
    JobRequest,
    JobStart,
    JobTicket,
    PieceQuery,
    PieceState,
)
from millstream_schemas.views import QueryError

START_BOUND_S = 120.0
"""A copy of a large read model, and a wait for a checkpoint, are part of the start."""
PIECE_BOUND_S = 15.0
LOCAL_PIECE_BYTES = 2**20
ERROR_HEADER = "Millstream-Error"

AnswerT = TypeVar("AnswerT", JobTicket, PieceState, QueryError)

Fetch: TypeAlias = Callable[[str, int], Awaitable[Piece]]


class Told(Protocol):
    """Told how many rows the job has written."""

    def __call__(self, rows: int, /) -> None:
        """Take it in."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job that runs, here or at a projector."""

    ticket: JobTicket
    fetch: Fetch

    async def pieces(
        self, part: str = "output", tell: Told | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a part of the output until its end.

        Raises:
            QueryFailedError: the job failed on its way; what came is not whole.
        """
        offset = 0
        while True:
            piece = await self.fetch(part, offset)
            if tell is not None:
                tell(piece.rows)
            if piece.content:
                offset += len(piece.content)
                yield piece.content
            if piece.is_last:
                return

    async def whole(self, part: str) -> bytes:
        """Return all bytes of a part at once; raises as ``pieces``."""
        return b"".join([piece async for piece in self.pieces(part)])


async def local_job(process: JobProcess) -> Job:
    """Return a child of this process as a job.

    Raises:
        QueryFailedError: it refused.
    """

    async def fetch(part: str, offset: int) -> Piece:
        return await process.piece(part, offset, LOCAL_PIECE_BYTES)

    return Job(await process.opened(), fetch)


@contextlib.asynccontextmanager
async def served_job(answers: Answers, request: JobRequest) -> AsyncIterator[Job]:
    """Run a job at any projector for the time of the block.

    Raises:
        QueryFailedError: no projector answers (code ``unavailable``), or it refused.
    """
    body = JobStart(request=request).model_dump_json().encode()
    try:
        answer = await answers.ask(subjects.JOB_START, body, timeout_s=START_BOUND_S)
    except LogUnavailableError as error:
        raise QueryFailedError(
            "unavailable", "no projector answers; start one (`millstream projector`)"
        ) from error
    _check(answer)
    ticket = _parsed(JobTicket, answer.data)

    async def fetch(part: str, offset: int) -> Piece:
        query = PieceQuery.model_validate({"part": part, "offset": offset})
        try:
            found = await answers.ask(
                f"{ticket.address}.piece",
                query.model_dump_json().encode(),
                timeout_s=PIECE_BOUND_S,
            )
        except LogUnavailableError as error:
            raise QueryFailedError(
                "unavailable", "the projector that ran this job is gone; ask again"
            ) from error
        _check(found)
        state = _parsed(PieceState, (found.headers or {}).get(PIECE_HEADER, "").encode())
        return Piece(found.data, state.rows, state.is_last)

    try:
        yield Job(ticket, fetch)
    finally:
        with contextlib.suppress(LogError):  # else the projector ends what nobody fetches
            await answers.send(f"{ticket.address}.end", b"")


def _check(answer: Msg) -> None:
    if answer.headers and ERROR_HEADER in answer.headers:
        refused = _parsed(QueryError, answer.data)
        raise QueryFailedError(refused.code, refused.message)


def _parsed(kind: type[AnswerT], text: bytes) -> AnswerT:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise QueryFailedError("failed", "a projector of another version answers") from error
