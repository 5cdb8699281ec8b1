"""/v1/audit: the sealed roots, the digests of the tables, and the raw events."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from millstream.eventlog.archive import export_lines
from millstream.eventlog.refusals import refusal_page
from millstream_api.answers import model_answer
from millstream_api.command_context import check_batch_id
from millstream_api.context import MinSequence, Parts
from millstream_schemas import audit
from millstream_schemas.refusals import RefusalPage

router = APIRouter(prefix="/v1/audit", tags=["audit"])

JSON_LINES = "application/x-ndjson"


@router.get("/checkpoints", response_model=audit.CheckpointPage)
async def list_checkpoints(
    parts: Parts,
    cursor: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    """Return the sealed roots of the hash chain, oldest first, and a projector's alarm."""
    query = audit.CheckpointsQuery(cursor=cursor, limit=limit)
    return model_answer(await parts.reads.queries.checkpoints(query))


@router.get("/digests", response_model=audit.Digests)
async def get_digests(parts: Parts, min_sequence: MinSequence = 0) -> Response:
    """Return the chain's root and the digests of one projector's tables, as of one moment.

    It reads every row: seconds for a million samples. Two projectors at the same `as_of` agree.
    """
    query = audit.DigestsQuery(min_sequence=min_sequence)
    return model_answer(await parts.reads.queries.digests(query))


@router.get("/refusals", response_model=RefusalPage)
async def list_refusals(
    parts: Parts,
    cursor: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    batch_id: Annotated[str | None, Query(description="Only those that named it.")] = None,
) -> Response:
    """Return the commands that were refused, oldest first: who asked, from where, and why not.

    The same refusal of a client that repeats itself is told once in ten seconds, and counted.
    """
    page = refusal_page(parts.event_log, after=cursor, limit=limit, batch_id=batch_id)
    return model_answer(await page)


@router.get(
    "/export",
    response_class=StreamingResponse,
    responses={200: {"content": {JSON_LINES: {"schema": {"type": "string"}}}}},
)
async def export(
    parts: Parts,
    batch_id: Annotated[str | None, Query(description="Only this batch.")] = None,
    at_seq: Annotated[
        int | None, Query(ge=1, lt=2**63, description="As of this sequence: the same bytes again.")
    ] = None,
) -> Response:
    """Stream the raw events as JSON lines; the last line is the manifest.

    An answer without a manifest was cut off. `millstream audit import` takes a whole one.
    """
    if batch_id is not None:
        check_batch_id(batch_id)
    lines = export_lines(parts.event_log, batch_id=batch_id, at=at_seq)
    first = await anext(lines)  # an outage is told with a status, not by an answer's end
    name = f"{batch_id or 'millstream'}.events.jsonl"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_all(first, lines), media_type=JSON_LINES, headers=headers)


async def _all(first: bytes, lines: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(lines):
        yield first
        async for piece in lines:
            yield piece
