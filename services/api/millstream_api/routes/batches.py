"""/v1/batches: what can be read of them."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from millstream_api.answers import model_answer
from millstream_api.command_context import check_batch_id
from millstream_api.context import Parts
from millstream_api.routes.reading import (
    Chosen,
    Cursor,
    Limit,
    Moment,
    SampleFilter,
    Text,
    Time,
    Topic,
    asked,
)
from millstream_api.slot_log import with_log
from millstream_schemas import analysis, lanes, views
from millstream_schemas.events import EventType

router = APIRouter(prefix="/v1", tags=["batches"])

Slot = Annotated[int, Path(ge=0, lt=2**31, description="A place of the batch, counted from 0.")]


@router.get("/batches", response_model=views.BatchPage)
async def list_batches(
    *,
    parts: Parts,
    moment: Moment,
    state: Annotated[tuple[views.State, ...], Query(description="Repeatable.")] = (),
    model: Chosen = None,
    recipe: Chosen = None,
    topic: Chosen = None,
    text: Text = None,
    started_after: Annotated[
        Time | None, Query(description="Not before this time, with its offset.")
    ] = None,
    started_before: Annotated[
        Time | None, Query(description="Before this time, with its offset.")
    ] = None,
    sort: Annotated[views.Sort, Query(description="A minus puts the largest first.")] = "-started",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Return batches, newest first unless sorted otherwise, with counts per value of the filters.

    A cursor belongs to its sort; text is looked for in id, model, recipe and topic.
    """
    query = asked(
        views.HistoryQuery,
        moment,
        states=state,
        model=model,
        recipe=recipe,
        topic=topic,
        text=text,
        started_after=started_after,
        started_before=started_before,
        sort=sort,
        cursor=cursor,
        limit=limit,
    )
    return model_answer(await parts.reads.history(query))


@router.get("/batches/{batch_id}", response_model=views.BatchAnswer)
async def get_batch(batch_id: str, parts: Parts, moment: Moment) -> Response:
    """Return one batch; its ETag is what If-Match takes."""
    check_batch_id(batch_id)
    found = await parts.reads.batch_at(asked(views.BatchQuery, moment, batch_id=batch_id))
    return model_answer(found, headers={"ETag": f'"{found.batch.version}"'})


@router.get("/batches/{batch_id}/figures", response_model=analysis.Figures)
async def get_figures(
    batch_id: str,
    parts: Parts,
    moment: Moment,
    errors: Annotated[int, Query(ge=0, le=200, description="At most so many groups.")] = 20,
) -> Response:
    """Return a batch's rates, time to its end, cost, latencies and errors in groups."""
    check_batch_id(batch_id)
    query = asked(analysis.FiguresQuery, moment, batch_id=batch_id, errors=errors)
    return model_answer(await parts.reads.queries.figures(query))


@router.get("/batches/{batch_id}/samples", response_model=views.SamplePage)
async def list_batch_samples(
    batch_id: str, parts: Parts, moment: Moment, wanted: SampleFilter
) -> Response:
    """Return a batch's accepted samples, in stream order unless sorted otherwise."""
    check_batch_id(batch_id)
    query = asked(views.SamplesQuery, moment, batch_id=batch_id, **wanted)
    return model_answer(await parts.reads.queries.samples(query))


@router.get("/samples", response_model=views.SamplePage)
async def list_samples(parts: Parts, moment: Moment, wanted: SampleFilter) -> Response:
    """Return the accepted samples of all batches, in stream order unless sorted otherwise."""
    query = asked(views.SamplesQuery, moment, **wanted)
    return model_answer(await parts.reads.queries.samples(query))


@router.get("/samples/search", response_model=analysis.SearchPage)
async def search_samples(
    *,
    parts: Parts,
    moment: Moment,
    text: Annotated[
        str, Query(min_length=1, max_length=200, description="Found in upper or lower case.")
    ],
    topic: Topic = None,
    difficulty: Chosen = None,
    sample_type: Chosen = None,
    model: Chosen = None,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> Response:
    """Go one step on with a search in all samples, the latest first.

    A step takes a quarter of a second and tells how far the search is; ask with its
    `next_cursor` until that is null, or stop asking, which ends the search.
    """
    query = asked(
        analysis.SearchQuery,
        moment,
        text=text,
        topic=topic,
        difficulty=difficulty,
        sample_type=sample_type,
        model=model,
        cursor=cursor,
        limit=limit,
    )
    return model_answer(await parts.reads.queries.search(query))


@router.get("/batches/{batch_id}/slots/{slot}", response_model=analysis.SlotAttempts)
async def get_slot(batch_id: str, slot: Slot, parts: Parts, moment: Moment) -> Response:
    """Return every attempt of a slot in order, and why its sample exists or why it has none."""
    check_batch_id(batch_id)
    query = asked(analysis.SlotQuery, moment, batch_id=batch_id, slot=slot)
    found = await parts.reads.queries.attempts(query)
    return model_answer(await with_log(parts.event_log, found))


@router.get("/batches/{batch_id}/events", response_model=views.EventPage)
async def list_events(
    *,
    batch_id: str,
    parts: Parts,
    moment: Moment,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    kind: Annotated[
        views.EventKind | None, Query(description="Only the commands and ends, or only the notes.")
    ] = None,
    types: Annotated[
        tuple[EventType, ...], Query(alias="type", description="Only these; repeatable.")
    ] = (),
    limit: Limit = 100,
) -> Response:
    """Return a batch's events after a sequence, in stream order.

    A page of some types ends after a quarter of a second too, so one with few events or none need
    not be the last: ask with its `next_cursor` as `after` until that is null.
    """
    check_batch_id(batch_id)
    query = asked(
        views.EventsQuery,
        moment,
        batch_id=batch_id,
        after=after,
        kind=kind,
        types=tuple(dict.fromkeys(types)),
        limit=limit,
    )
    return model_answer(await parts.reads.queries.events(query))


@router.get("/batches/{batch_id}/lanes", response_model=lanes.Lanes)
async def get_lanes(
    *,
    batch_id: str,
    parts: Parts,
    moment: Moment,
    by: Annotated[lanes.LanesBy, Query(description="A lane for each of these.")] = "node",
    limit: Annotated[int, Query(ge=1, le=lanes.LANES_MOST)] = lanes.LANES_MOST,
) -> Response:
    """Return who worked on a batch when: its events, counted by kind along time."""
    check_batch_id(batch_id)
    query = asked(lanes.LanesQuery, moment, batch_id=batch_id, by=by, limit=limit)
    return model_answer(await parts.reads.queries.lanes(query))


@router.get("/batches/{batch_id}/quality", response_model=views.Quality)
async def get_quality(batch_id: str, parts: Parts, moment: Moment) -> Response:
    """Return how a batch's samples look."""
    check_batch_id(batch_id)
    query = asked(views.BatchQuery, moment, batch_id=batch_id)
    return model_answer(await parts.reads.queries.quality(query))
