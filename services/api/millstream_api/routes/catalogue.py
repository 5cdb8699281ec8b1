"""/v1: recipes, models, nodes, the dataset in numbers, stuck batches."""

from fastapi import APIRouter
from starlette.responses import Response

from millstream_api.answers import (
    ModelChoice,
    ModelList,
    NodeList,
    RecipeChoice,
    RecipeList,
    SampleTypeChoice,
    model_answer,
)
from millstream_api.context import MinSequence, Parts
from millstream_schemas import views
from millstream_schemas.recipes import Recipe

router = APIRouter(prefix="/v1", tags=["catalogue"])


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
            )
        )
    return model_answer(ModelList(models=tuple(found), default=parts.models.default()))


@router.get("/nodes", response_model=NodeList)
async def list_nodes(parts: Parts) -> Response:
    """Return the processes that live."""
    return model_answer(NodeList(nodes=tuple(await parts.nodes.live())))


@router.get("/statistics", response_model=views.Statistics)
async def get_statistics(parts: Parts, min_sequence: MinSequence = 0) -> Response:
    """Return the whole dataset in numbers."""
    query = views.PlainQuery(min_sequence=min_sequence)
    return model_answer(await parts.reads.queries.statistics(query))


@router.get("/stuck", response_model=views.StuckAnswer)
async def list_stuck(parts: Parts, min_sequence: MinSequence = 0) -> Response:
    """Return the batches that make no progress and why; reading it changes nothing."""
    await parts.reads.caught_up(min_sequence)
    return model_answer(parts.reads.stuck())


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
