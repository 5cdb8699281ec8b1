"""/v1/…/export and /v1/…/card: the samples of a batch or a dataset as a file, and what it holds."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response, StreamingResponse

from millstream.jobs.client import Job, served_job
from millstream_api.command_context import check_batch_id
from millstream_api.context import Context, Parts
from millstream_api.routes.reading import Moment, asked
from millstream_schemas import views
from millstream_schemas.exports import DatasetCard, ExportFormat, ExportRequest

router = APIRouter(prefix="/v1", tags=["exports"])

Since = Annotated[
    int, Query(ge=0, lt=2**63, description="Only samples stored after this sequence.")
]


@dataclass(frozen=True, slots=True)
class Pin:
    """What part of the log is exported."""

    moment: views.Query
    since: int


async def _read_pin(moment: Moment, since: Since = 0) -> Pin:
    return Pin(moment, since)


Pinned = Annotated[Pin, Depends(_read_pin)]
Form = Annotated[
    ExportFormat, Query(alias="format", description="`hf` is a tar of the folder for the hub.")
]
DatasetId = Annotated[str, Path(description="The id of the dataset's first batch.")]
MEDIA_TYPES: dict[ExportFormat, str] = {
    "parquet": "application/vnd.apache.parquet",
    "jsonl": "application/x-ndjson",
    "hf": "application/x-tar",
}
_SUFFIXES: dict[ExportFormat, str] = {"parquet": "parquet", "jsonl": "jsonl", "hf": "tar"}
_FILE = {"schema": {"type": "string", "format": "binary"}}
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": (
            "The file. `Millstream-As-Of` is the sequence that it is pinned to,"
            " `Millstream-Total` the number of its samples."
        ),
        "content": dict.fromkeys(MEDIA_TYPES.values(), _FILE),
    }
}


@router.get("/batches/{batch_id}/export", response_class=StreamingResponse, responses=_ANSWER)
async def export_batch(
    parts: Parts, batch_id: str, pin: Pinned, form: Form = "parquet"
) -> Response:
    """Stream the samples of one batch; an answer that ends early was cut off."""
    return await _file(parts, await _request(parts, batch_id, pin, form, is_one_batch=True))


@router.get("/datasets/{dataset_id}/export", response_class=StreamingResponse, responses=_ANSWER)
async def export_dataset(
    parts: Parts, dataset_id: DatasetId, pin: Pinned, form: Form = "parquet"
) -> Response:
    """Stream the samples of a batch and its children; an answer that ends early was cut off."""
    return await _file(parts, await _request(parts, dataset_id, pin, form))


@router.get("/batches/{batch_id}/card", response_model=DatasetCard)
async def get_batch_card(parts: Parts, batch_id: str, pin: Pinned) -> Response:
    """Return what an export of the batch holds; it takes as long as the export itself."""
    return await _card(parts, await _request(parts, batch_id, pin, is_one_batch=True))


@router.get("/datasets/{dataset_id}/card", response_model=DatasetCard)
async def get_dataset_card(parts: Parts, dataset_id: DatasetId, pin: Pinned) -> Response:
    """Return what an export of the dataset holds; it takes as long as the export itself."""
    return await _card(parts, await _request(parts, dataset_id, pin))


async def _request(
    parts: Context,
    batch_id: str,
    pin: Pin,
    form: ExportFormat = "jsonl",
    *,
    is_one_batch: bool = False,
) -> ExportRequest:
    check_batch_id(batch_id)
    moment, at_seq = pin.moment, pin.moment.at_seq
    if moment.at_time is not None:
        # Any read tells which sequence a time means; one event of one batch is the least of them.
        query = asked(views.EventsQuery, moment, batch_id=batch_id, limit=1)
        at_seq = (await parts.reads.queries.events(query)).as_of
    begun_at = None if moment.is_past else await parts.event_log.begun_at(batch_id)
    return ExportRequest(
        id=batch_id,
        format=form,
        is_one_batch=is_one_batch,
        at_seq=at_seq,
        since=pin.since,
        min_sequence=max(moment.min_sequence, begun_at or 0),  # it may have begun just now
    )


def _job(parts: Context, request: ExportRequest) -> AbstractAsyncContextManager[Job]:
    return served_job(parts.event_log.answers, request)


async def _card(parts: Context, request: ExportRequest) -> Response:
    async with _job(parts, request) as job:
        return Response(await job.whole("card"), media_type="application/json")


async def _file(parts: Context, request: ExportRequest) -> Response:
    async with AsyncExitStack() as stack:
        job = await stack.enter_async_context(_job(parts, request))
        pieces = await stack.enter_async_context(aclosing(job.pieces()))
        # A failure at the beginning is told with a status, not by an answer's end.
        first = await anext(pieces, b"")
        rest = stack.pop_all()
    headers = {
        "Content-Disposition": f'attachment; filename="{request.id}.{_SUFFIXES[request.format]}"',
        "Millstream-As-Of": str(job.ticket.as_of),
        "Millstream-Total": str(job.ticket.total or 0),
    }
    return StreamingResponse(
        _all(first, pieces, rest), media_type=MEDIA_TYPES[request.format], headers=headers
    )


async def _all(
    first: bytes, pieces: AsyncGenerator[bytes, None], rest: AsyncExitStack
) -> AsyncGenerator[bytes, None]:
    async with rest:
        yield first
        async for piece in pieces:
            yield piece
