"""/api: what older pages read; flat bodies, no paging where they know none."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from millstream.errors import QueryFailedError
from millstream_api import seed
from millstream_api.answers import plain_answer
from millstream_api.command_context import check_batch_id
from millstream_api.context import Context, Parts
from millstream_api.problems import ProblemError
from millstream_schemas import views
from millstream_schemas.recipes import Recipe

router = APIRouter(prefix="/api", tags=["seed"])

BALANCE = "balance"
HISTORY_MAX = 10_000
SAMPLES_MAX = 10_000
SAMPLES_USUAL = 1000


@router.get("/generate/batch/status")
async def status(parts: Parts, batch_id: str | None = None) -> Response:
    """Return the live batches, or the one asked for in whatever state it is."""
    await parts.reads.caught_up(0)
    if batch_id is None:
        found = {view.id: seed.seed_state(view) for view in parts.reads.live()}
        return plain_answer({"success": True, "batches": found, "count": len(found)})
    check_batch_id(batch_id)
    state = seed.seed_state((await parts.reads.batch(batch_id)).batch)
    return plain_answer({"success": True, **state, "batches": {batch_id: state}, "count": 1})


@router.get("/generate/batch/history")
async def history(
    parts: Parts, limit: Annotated[int, Query(ge=1, le=HISTORY_MAX)] = HISTORY_MAX
) -> Response:
    """Return the batches, newest first; ``stale`` when the read model is behind."""
    sequence = parts.hub.sequence
    stale = False
    try:
        page = await parts.reads.history(views.HistoryQuery(limit=limit, min_sequence=sequence))
    except QueryFailedError as error:
        if error.code != "behind":
            raise
        stale = True
        page = await parts.reads.history(views.HistoryQuery(limit=limit))
    rows = [seed.seed_row(view) for view in page.batches[:limit]]
    answer: dict[str, Any] = {"success": True, "count": len(rows), "batches": rows}
    return plain_answer(answer | {"stale": True} if stale else answer)


@router.get("/batches/stuck")
async def stuck(parts: Parts) -> Response:
    """Return the batches that make no progress; reading it stops nothing."""
    await parts.reads.caught_up(0)
    now = parts.event_log.time.now()
    found = [seed.seed_stuck(view, now) for view in parts.reads.stuck().batches]
    return plain_answer(
        {
            "success": True,
            "stuck_batches": found,
            "count": len(found),
            "stopped_batches": [],
            "stopped_count": 0,
            "threshold_minutes": round(parts.settings.stuck_after_s / 60, 2),
            "message": f"{len(found)} stuck batches" if found else "No stuck batches",
        }
    )


@router.get("/providers")
async def providers(parts: Parts) -> Response:
    """Return the providers of the named models."""
    found = [_provider(parts, name) for name in _provider_names(parts)]
    return plain_answer(
        {"success": True, "providers": found, "default_provider": _defaults(parts)[0]}
    )


@router.get("/models")
async def models(parts: Parts) -> Response:
    """Return the named models, once per provider that serves them."""
    found: list[dict[str, Any]] = []
    for alias in parts.models.all():
        state = parts.models.availability(alias)
        for provider in dict.fromkeys(route.provider for route in alias.routes):
            found.append(
                {
                    "id": alias.id,
                    "name": alias.name,
                    "provider": provider,
                    "provider_name": provider,
                    "context_window": alias.context_window,
                    "fallback_priority": len(found) + 1,
                    "supports_json_schema": alias.routes[0].structured,
                    "is_thinking_model": "thinking" in alias.id,
                    "owned_by": provider,
                    "available": state.available,
                    "reason": state.reason,
                }
            )
    default = dict(zip(("default_provider", "default_model"), _defaults(parts), strict=True))
    return plain_answer({"success": True, "models": found, **default})


@router.get("/topics")
async def topics(parts: Parts, recipe: str | None = None) -> Response:
    """Return the topics of a recipe; any of its difficulties goes with each."""
    found = [
        {"practice_area": item.area, "topic": item.topic, "difficulty": "balanced"}
        for item in _recipe(parts, recipe).topics
    ]
    return plain_answer({"success": True, "topics": found})


@router.get("/sample-types")
async def sample_types(parts: Parts, recipe: str | None = None) -> Response:
    """Return the sample types of a recipe; ``balance`` mixes them."""
    found = [
        {
            "id": item.id,
            "name": item.name,
            "description": item.description,
            "focus": item.focus,
            "example": item.example,
        }
        for item in _recipe(parts, recipe).sample_types
    ]
    return plain_answer({"success": True, "sample_types": found, "default": BALANCE})


@router.get("/stats")
async def stats(parts: Parts) -> Response:
    """Return the dataset in numbers."""
    sequence = parts.hub.sequence
    try:
        found = await parts.reads.queries.statistics(views.PlainQuery(min_sequence=sequence))
    except QueryFailedError as error:
        if error.code != "behind":
            raise
        found = await parts.reads.queries.statistics(views.PlainQuery())
        return plain_answer(seed.seed_statistics(found) | {"stale": True})
    return plain_answer(seed.seed_statistics(found))


@router.get("/batch/{batch_id}/samples")
async def samples(
    parts: Parts, batch_id: str, limit: Annotated[int, Query(ge=1, le=SAMPLES_MAX)] = SAMPLES_USUAL
) -> Response:
    """Return a batch's samples; 404 when it has none."""
    check_batch_id(batch_id)
    ask = views.SamplesQuery.model_construct(batch_id=batch_id, limit=limit)
    page = await parts.reads.queries.samples(ask)
    if not page.samples:
        raise ProblemError(404, "not_found", f"batch {batch_id} has no samples yet")
    found = [seed.seed_sample(view) for view in page.samples]
    return plain_answer(
        {
            "success": True,
            "batch_id": batch_id,
            "samples": found,
            "count": len(found),
            "total": page.total,
        }
    )


@router.get("/batch/{batch_id}/quality")
async def quality(parts: Parts, batch_id: str) -> Response:
    """Return a batch's quality report."""
    check_batch_id(batch_id)
    query = views.BatchQuery(batch_id=batch_id)
    return plain_answer(seed.seed_quality(await parts.reads.queries.quality(query)))


@router.get("/health")
async def health(parts: Parts) -> Response:
    """Tell that the server lives, and how many batches run."""
    running = len(parts.reads.live())
    is_ready = parts.hub.ready.is_set()
    status = "healthy" if is_ready else "starting"
    return plain_answer({"success": True, "status": status, "running_batches": running})


def _recipe(parts: Context, name: str | None) -> Recipe:
    return parts.recipes.get(name or parts.settings.default_recipe)


def _defaults(parts: Context) -> tuple[str | None, str | None]:
    """Return provider and id of the default model."""
    name = parts.models.default()
    if name is None:
        return None, None
    return parts.models.find(name).routes[0].provider, name


def _provider_names(parts: Context) -> list[str]:
    named = (route.provider for alias in parts.models.all() for route in alias.routes)
    return list(dict.fromkeys(named))


def _provider(parts: Context, name: str) -> dict[str, Any]:
    served = [
        alias
        for alias in parts.models.all()
        if any(route.provider == name for route in alias.routes)
    ]
    ready = any(parts.models.has_provider_key(alias, name) for alias in served)
    return {
        "id": name,
        "name": name,
        "enabled": ready,
        "default_model": served[0].id,
        "champion_model": served[0].id,
        # No limit is known before the provider names one: older pages want a number here.
        "requests_per_minute": 0,
        "tokens_per_minute": 0,
        "base_url": None,
    }
