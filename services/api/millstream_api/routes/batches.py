"""/v1/batches: what can be read of them."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from millstream_api.answers import model_answer
from millstream_api.command_context import check_batch_id
from millstream_api.context import MinSequence, Parts
from millstream_schemas import views

router = APIRouter(prefix="/v1", tags=["batches"])

Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("/batches", response_model=views.BatchPage)
async def list_batches(
    *,
    parts: Parts,
    state: Annotated[tuple[views.State, ...], Query(description="Repeatable.")] = (),
    model: str | None = None,
    recipe: str | None = None,
    text: Annotated[str | None, Query(max_length=200)] = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = 50,
    min_sequence: MinSequence = 0,
) -> Response:
    """Return batches, newest first."""
    query = views.HistoryQuery(
        states=state,
        model=model,
        recipe=recipe,
        text=text,
        cursor=cursor,
        limit=limit,
        min_sequence=min_sequence,
    )
    return model_answer(await parts.reads.history(query))


@router.get("/batches/{batch_id}", response_model=views.BatchAnswer)
async def get_batch(batch_id: str, parts: Parts, min_sequence: MinSequence = 0) -> Response:
    """Return one batch; its ETag is what If-Match takes."""
    check_batch_id(batch_id)
    found = await parts.reads.batch(batch_id, min_sequence)
    return model_answer(found, headers={"ETag": f'"{found.batch.version}"'})


@router.get("/batches/{batch_id}/samples", response_model=views.SamplePage)
async def list_samples(
    *,
    batch_id: str,
    parts: Parts,
    text: Annotated[str | None, Query(max_length=200)] = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = 50,
    min_sequence: MinSequence = 0,
) -> Response:
    """Return a batch's accepted samples in stream order."""
    check_batch_id(batch_id)
    query = views.SamplesQuery(
        batch_id=batch_id, text=text, cursor=cursor, limit=limit, min_sequence=min_sequence
    )
    return model_answer(await parts.reads.queries.samples(query))


@router.get("/batches/{batch_id}/events", response_model=views.EventPage)
async def list_events(
    batch_id: str,
    parts: Parts,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    limit: Limit = 100,
    min_sequence: MinSequence = 0,
) -> Response:
    """Return a batch's events after a sequence, in stream order."""
    check_batch_id(batch_id)
    query = views.EventsQuery(
        batch_id=batch_id, after=after, limit=limit, min_sequence=min_sequence
    )
    return model_answer(await parts.reads.queries.events(query))


@router.get("/batches/{batch_id}/quality", response_model=views.Quality)
async def get_quality(batch_id: str, parts: Parts, min_sequence: MinSequence = 0) -> Response:
    """Return how a batch's samples look."""
    check_batch_id(batch_id)
    query = views.BatchQuery(batch_id=batch_id, min_sequence=min_sequence)
    return model_answer(await parts.reads.queries.quality(query))
