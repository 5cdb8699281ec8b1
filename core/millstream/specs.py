"""From what a user asks for to what a batch pins: recipe, routes, prices, slices and seed."""

from millstream.domain.plan import check_choices
from millstream.errors import UsageError
from millstream.models import ModelBook
from millstream.recipes import RecipeBook
from millstream.runtime.clock import new_seed
from millstream.runtime.settings import Settings
from millstream_schemas.commands import StartBatch
from millstream_schemas.control import SLICE_SLOTS_MAX, BatchSpec
from millstream_schemas.routes import Route

SLICES_WANTED = 32
"""A small batch is cut into about so many slices, so that many nodes can share it."""


def slice_size_of(target: int) -> int:
    """Return the slots per slice of a batch of ``target`` samples (1..64)."""
    return min(SLICE_SLOTS_MAX, max(1, -(-target // SLICES_WANTED)))


def build_spec(
    command: StartBatch,
    *,
    models: ModelBook,
    recipes: RecipeBook,
    settings: Settings,
    seed: int | None = None,
) -> BatchSpec:
    """Return the whole specification of a batch; ``seed`` serves when the command names none.

    Raises:
        UsageError: an unknown recipe, model, provider, topic, difficulty or sample type, or a
            model without its key; names field, value and remedy.
    """
    pinned = recipes.pin(command.recipe or settings.default_recipe)
    alias = models.resolve(command.model, command.provider)
    _refuse_nul("instruction", command.instruction)
    check_choices(pinned.recipe, command.topic, command.difficulty, command.sample_type)
    if command.seed is not None:
        seed = command.seed
    return BatchSpec(
        recipe=pinned,
        model=alias.id,
        routes=alias.routes,
        target=command.target,
        slice_size=slice_size_of(command.target),
        seed=new_seed() if seed is None else seed,
        concurrency=_concurrency(command, alias.routes, settings),
        max_attempts=command.max_attempts,
        priority=command.priority,
        pool=settings.pool,
        topic=command.topic,
        difficulty=command.difficulty,
        sample_type=command.sample_type,
        instruction=command.instruction,
        smart_mode=command.smart_mode,
    )


def _concurrency(command: StartBatch, routes: tuple[Route, ...], settings: Settings) -> int:
    """Return the calls in flight: as asked for, but never more than a route can take."""
    wanted = command.concurrency or settings.batch_concurrency
    caps = [route.max_concurrency for route in routes if route.max_concurrency]
    return min([wanted, *caps])


def _refuse_nul(field: str, text: str | None) -> None:
    if text and "\x00" in text:
        raise UsageError(
            f"{field} holds a NUL character (U+0000); remove it", field=field, value=text
        )
