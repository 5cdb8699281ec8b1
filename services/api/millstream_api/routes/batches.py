"""/v1/batches: start, stop, pause, resume, read."""

import re
from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from millstream_api.answers import BulkAnswer, BulkItem, CommandAnswer, model_answer
from millstream_api.commands import Done, check_batch_id
from millstream_api.context import Asker, MinSequence, Parts
from millstream_api.problems import ProblemError, field_error
from millstream_schemas import views
from millstream_schemas.commands import BulkStop, PauseBatch, ResumeBatch, StartBatch, StopBatch

router = APIRouter(prefix="/v1", tags=["batches"])

IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", description="The `version` that you have seen; else 412."),
]
Limit = Annotated[int, Query(ge=1, le=1000)]
_VERSION = re.compile(r'^(?:W/)?"?([0-9]{1,18})"?$')


@router.post(
    "/batches",
    status_code=201,
    response_model=CommandAnswer,
    responses={200: {"model": CommandAnswer, "description": "The key's batch existed already."}},
)
async def start_batch(
    command: StartBatch,
    parts: Parts,
    actor: Asker,
    idempotency_key: Annotated[
        str | None, Header(description="The same key again gives the same batch, for 24 hours.")
    ] = None,
) -> Response:
    """Start a batch."""
    done = await parts.commands.start(command, idempotency_key, actor)
    answer = CommandAnswer(batch=done.view, sequence=done.sequence)
    headers = {"Location": f"/v1/batches/{done.view.id}"}
    return model_answer(answer, 201 if done.is_new else 200, headers)


@router.post("/batches:bulk", status_code=207, response_model=BulkAnswer)
async def stop_batches(command: BulkStop, parts: Parts, actor: Asker) -> Response:
    """Stop exactly the listed batches; the answer tells each one's outcome."""
    results = await parts.commands.stop_many(command, actor)
    items = tuple(BulkItem(id=one.id, status=one.status, detail=one.detail) for one in results)
    return model_answer(BulkAnswer(results=items), 207)


@router.post("/batches/{batch_id}/stop", status_code=202, response_model=CommandAnswer)
async def stop_batch(
    batch_id: str,
    parts: Parts,
    actor: Asker,
    command: StopBatch | None = None,
    if_match: IfMatch = None,
) -> Response:
    """Stop a batch: no call starts after this; its end follows within half a second."""
    version = _version(if_match)
    return _commanded(await parts.commands.stop(batch_id, command or StopBatch(), version, actor))


@router.post("/batches/{batch_id}/pause", status_code=202, response_model=CommandAnswer)
async def pause_batch(
    batch_id: str,
    parts: Parts,
    actor: Asker,
    command: PauseBatch | None = None,
    if_match: IfMatch = None,
) -> Response:
    """Start no new call until the batch is resumed; calls in flight finish."""
    version = _version(if_match)
    return _commanded(await parts.commands.pause(batch_id, command or PauseBatch(), version, actor))


@router.post("/batches/{batch_id}/resume", status_code=202, response_model=CommandAnswer)
async def resume_batch(
    batch_id: str,
    parts: Parts,
    actor: Asker,
    command: ResumeBatch | None = None,
    if_match: IfMatch = None,
) -> Response:
    """Let a paused batch go on."""
    version = _version(if_match)
    return _commanded(
        await parts.commands.resume(batch_id, command or ResumeBatch(), version, actor)
    )


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


def _commanded(done: Done) -> Response:
    answer = CommandAnswer(batch=done.view, sequence=done.sequence)
    return model_answer(answer, 202 if done.is_new else 200)


def _version(if_match: str | None) -> int | None:
    if if_match is None or if_match.strip() == "*":
        return None
    match = _VERSION.match(if_match.strip())
    if match is None:
        message = "If-Match takes the batch's version, a whole number"
        raise ProblemError(
            400, "if_match_invalid", message, errors=[field_error("If-Match", message, if_match)]
        )
    return int(match[1])
