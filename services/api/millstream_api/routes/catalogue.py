"""/v1: what answers, recipes, models, nodes, the dataset in numbers, stuck batches."""

import asyncio
from collections import Counter
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from millstream.eventlog.nodes import by_log
from millstream_api.answers import model_answer
from millstream_api.command_context import check_batch_id
from millstream_api.context import Parts
from millstream_api.page import page_build
from millstream_api.route_views import merged_routes
from millstream_api.routes.reading import Chosen, Moment, Time, asked
from millstream_schemas import analysis, subjects, views
from millstream_schemas.answers import (
    About,
    LargestCall,
    ModelChoice,
    ModelList,
    NodeBeat,
    NodeList,
    NodeView,
    RecipeChoice,
    RecipeList,
    RouteList,
    SampleTypeChoice,
)
from millstream_schemas.commands import (
    ChoiceWords,
    Instruction,
    ModelWords,
    ProviderName,
    RecipeName,
    StartBatch,
    TopicWords,
)
from millstream_schemas.recipes import Recipe

router = APIRouter(prefix="/v1", tags=["catalogue"])

_FOLDING = frozenset({"projector", "api"})
CLOCK_OFF_S = 3.0
"""A clock that is further off is told: NTP keeps it within a tenth of a second."""
"""The services that follow the log to its end."""


@router.get("/about", response_model=About)
async def get_about(parts: Parts) -> Response:
    """Return which version answers, of which event stream, and how far it has read that."""
    return model_answer(
        About(
            version=version("millstream"),
            stream=subjects.EVENTS,
            epoch=parts.hub.epoch,
            as_of=parts.hub.sequence,
            page=await asyncio.to_thread(page_build),
        )
    )


@router.get("/recipes", response_model=RecipeList)
async def list_recipes(parts: Parts) -> Response:
    """Return the recipes with what can be chosen in each."""
    book = parts.recipes
    recipes = tuple(_choice(book.get(name)) for name in book.names())
    return model_answer(
        RecipeList(
            recipes=recipes,
            default=parts.settings.default_recipe,
            # The file's name is enough: a path would tell how the server's disk is laid out.
            broken={
                path.replace("\\", "/").rpartition("/")[2]: why for path, why in book.broken.items()
            },
        )
    )


@router.get("/recipes/{recipe}/largest-call", response_model=LargestCall)
async def get_largest_call(
    *,
    recipe: Annotated[RecipeName, Path()],
    parts: Parts,
    model: Annotated[ModelWords | None, Query(description="As a start names it.")] = None,
    provider: Annotated[ProviderName | None, Query(description="Only this one.")] = None,
    topic: Annotated[TopicWords | None, Query(description="Only this one.")] = None,
    difficulty: Annotated[ChoiceWords | None, Query(description="Only this one.")] = None,
    sample_type: Annotated[ChoiceWords | None, Query(description="Only this one.")] = None,
    instruction: Annotated[Instruction | None, Query(description="Words for the prompt.")] = None,
) -> Response:
    """Return the most that one call of a batch may use: a smaller budget of it is refused."""
    command = StartBatch(
        recipe=recipe,
        model=model,
        provider=provider,
        target=1,
        topic=topic,
        difficulty=difficulty,
        sample_type=sample_type,
        instruction=instruction,
    )
    return model_answer(await parts.commands.largest_call(command))


@router.get("/models", response_model=ModelList)
async def list_models(parts: Parts) -> Response:
    """Return the named models; any `provider/model` of a known provider can be started too."""
    found = []
    for alias in parts.models.all():
        state = parts.models.availability(alias)
        found.append(
            ModelChoice(
                id=alias.id,
                name=alias.name,
                kind=alias.kind,
                provider=alias.routes[0].provider,
                available=state.available,
                reason=state.reason,
                price=parts.models.price(alias),
            )
        )
    return model_answer(ModelList(models=tuple(found), default=parts.models.default()))


@router.get("/nodes", response_model=NodeList)
async def list_nodes(parts: Parts) -> Response:
    """Return the processes that live: their services, alarms, last beats and lags."""
    heard = sorted(await parts.nodes.heard(), key=lambda item: (item[0].service, item[0].node))
    as_of = parts.hub.sequence
    nodes = tuple(
        NodeView(
            **(by_log(beat, beat_at).model_dump() | {"alarm": _alarm(beat)}),
            beat_at=beat_at,
            lag=_lag(beat, as_of),
        )
        for beat, beat_at in heard
    )
    return model_answer(
        NodeList(
            nodes=nodes,
            services=dict(Counter(node.service for node in nodes)),
            alarms=tuple(f"{node.node}: {node.alarm}" for node in nodes if node.alarm),
            as_of=as_of,
        )
    )


@router.get("/routes", response_model=RouteList)
async def list_routes(parts: Parts) -> Response:
    """Return how the routes to models do: limits, trouble, calls in flight and in line."""
    beats = await parts.nodes.live()
    return model_answer(RouteList(routes=merged_routes(beats)))


@router.get("/statistics", response_model=views.Statistics)
async def get_statistics(parts: Parts, moment: Moment) -> Response:
    """Return the whole dataset in numbers."""
    query = asked(views.PlainQuery, moment)
    return model_answer(await parts.reads.queries.statistics(query))


@router.get("/statistics/timeline", response_model=analysis.Timeline)
async def get_timeline(
    *,
    parts: Parts,
    moment: Moment,
    start: Annotated[Time | None, Query(description="From this time on, with its offset.")] = None,
    end: Annotated[Time | None, Query(description="Before this time.")] = None,
    bucket: Annotated[analysis.Bucket, Query(description="How the time is cut.")] = "auto",
    by: Annotated[analysis.Split, Query(description="What each row is of.")] = "model",
    model: Chosen = None,
    provider: Chosen = None,
    batch_id: Chosen = None,
) -> Response:
    """Return what each model of each provider, or each provider, did in each second to day."""
    if batch_id is not None:
        check_batch_id(batch_id)
    query = asked(
        analysis.TimelineQuery,
        moment,
        start=start,
        end=end,
        bucket=bucket,
        by=by,
        model=model,
        provider=provider,
        batch_id=batch_id,
    )
    return model_answer(await parts.reads.queries.timeline(query))


@router.get("/stuck", response_model=views.StuckAnswer)
async def list_stuck(parts: Parts, moment: Moment) -> Response:
    """Return the batches that make no progress and why; reading it changes nothing."""
    if moment.is_past:
        return model_answer(await parts.reads.queries.stuck(asked(views.PlainQuery, moment)))
    await parts.reads.caught_up(moment.min_sequence)
    return model_answer(parts.reads.stuck())


def _alarm(beat: NodeBeat) -> str:
    """Return what is wrong on a node in its own words, and with its clock."""
    words, ahead_s = beat.alarm, beat.clock_ahead_s or 0.0
    if abs(ahead_s) > CLOCK_OFF_S:
        side = "ahead of" if ahead_s > 0 else "behind"
        clock = (
            f"its clock is {abs(ahead_s):,.0f} s {side} that of NATS: times are measured by NATS's,"
            " but events carry a wrong one for display; set the clocks of both machines (NTP)"
        )
        words = f"{words}; {clock}" if words else clock
    return words


def _lag(beat: NodeBeat, as_of: int) -> int | None:
    """Return how far behind the log a node was as it beat: what came since is no lag of its own."""
    if beat.service not in _FOLDING:
        return None
    due = as_of if beat.due_sequence is None else beat.due_sequence  # None: an older version's
    return max(0, due - beat.sequence)


def _choice(recipe: Recipe) -> RecipeChoice:
    return RecipeChoice(
        name=recipe.name,
        title=recipe.title,
        description=recipe.description,
        topics=tuple(topic.label for topic in recipe.topics),
        difficulties=tuple(item.id for item in recipe.difficulties),
        sample_types=tuple(
            SampleTypeChoice(id=item.id, name=item.name) for item in recipe.sample_types
        ),
    )
