"""From what a user asks for to what a batch pins: recipe, routes, prices, slices and seed."""

from collections.abc import Sequence
from decimal import ROUND_FLOOR, Decimal

from millstream.domain.batch_state import BatchState
from millstream.domain.plan import check_choices
from millstream.errors import UsageError
from millstream.models import ModelBook
from millstream.prices import NANO_USD_PER_USD
from millstream.recipes import RecipeBook
from millstream.runtime.clock import new_seed
from millstream.runtime.settings import Settings
from millstream_schemas.commands import (
    BudgetsAsked,
    CloneOverrides,
    RefillOverrides,
    StartBatch,
)
from millstream_schemas.control import SLICE_SLOTS_MAX, BatchSpec, Budgets, CellQuota
from millstream_schemas.routes import ModelAlias, Route

SLICES_WANTED = 32
"""A small batch is cut into about so many slices, so that many nodes can share it."""

_AXES = ("topic", "difficulty", "sample_type")


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
        UsageError: an unknown recipe, model, provider, topic, difficulty or sample type, a model
            without its key, or a cost budget on a model of unknown price; names field, value and
            remedy.
    """
    pinned = recipes.pin(settings.default_recipe if command.recipe is None else command.recipe)
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
        concurrency=_concurrency(command.concurrency or settings.batch_concurrency, alias.routes),
        max_attempts=command.max_attempts,
        priority=command.priority,
        pool=command.pool or settings.pool,
        topic=command.topic,
        difficulty=command.difficulty,
        sample_type=command.sample_type,
        instruction=command.instruction,
        smart_mode=command.smart_mode,
        budgets=_checked(_budgets(command.budgets), alias),
    )


def refill_spec(
    parent: BatchState,
    overrides: RefillOverrides,
    quotas: Sequence[CellQuota],
    *,
    models: ModelBook,
) -> BatchSpec:
    """Return the specification of the child that fills ``quotas``, the cells its parent left.

    Raises:
        UsageError: as ``build_spec``.
    """
    target = sum(quota.count for quota in quotas)
    changed = _changed(parent, overrides, models)
    return parent.spec.model_copy(
        update={
            **changed,
            "target": target,
            "slice_size": slice_size_of(target),
            "quotas": tuple(quotas),
        }
    )


def clone_spec(
    parent: BatchState,
    overrides: CloneOverrides,
    *,
    models: ModelBook,
    recipes: RecipeBook,
) -> BatchSpec:
    """Return the specification of a batch like ``parent`` but for ``overrides``.

    The recipe is the one that the parent pinned unless another is named. A clone of a child
    keeps the child's cells unless target, recipe or a choice is another one.

    Raises:
        UsageError: as ``build_spec``.
    """
    old = parent.spec
    changed = _changed(parent, overrides, models)
    given = overrides.model_fields_set
    for name in (*_AXES, "instruction"):
        if name in given:
            changed[name] = getattr(overrides, name)
    if overrides.recipe is not None:
        changed["recipe"] = recipes.pin(overrides.recipe)
    if overrides.smart_mode is not None:
        changed["smart_mode"] = overrides.smart_mode
    target = overrides.target or old.target
    clone = old.model_copy(
        update={**changed, "target": target, "slice_size": slice_size_of(target)}
    )
    _refuse_nul("instruction", clone.instruction)
    check_choices(clone.recipe.recipe, clone.topic, clone.difficulty, clone.sample_type)
    same = ("target", "recipe", *_AXES)
    if any(getattr(clone, name) != getattr(old, name) for name in same):
        clone = clone.model_copy(update={"quotas": None})
    return clone


def _changed(
    parent: BatchState, overrides: RefillOverrides, models: ModelBook
) -> dict[str, object]:
    """Return the fields in which a batch that follows ``parent`` differs from it.

    The model is looked up anew: keys, prices and addresses may have changed since.
    """
    old = parent.spec
    alias = _alias(old, overrides, models)
    budgets = old.budgets if overrides.budgets is None else _budgets(overrides.budgets)
    return {
        "model": alias.id,
        "routes": alias.routes,
        "seed": new_seed() if overrides.seed is None else overrides.seed,
        "concurrency": _concurrency(overrides.concurrency or old.concurrency, alias.routes),
        "max_attempts": overrides.max_attempts or old.max_attempts,
        "priority": overrides.priority or parent.priority,
        "pool": overrides.pool or old.pool,
        "budgets": _checked(budgets, alias),
    }


def _alias(old: BatchSpec, overrides: RefillOverrides, models: ModelBook) -> ModelAlias:
    """Return the model asked for, else the old one through the provider that it was kept to."""
    if overrides.model is not None or overrides.provider is not None:
        return models.resolve(
            old.model if overrides.model is None else overrides.model, overrides.provider
        )
    kept_to = {route.provider for route in old.routes}
    served_by = {route.provider for route in models.find(old.model).routes}
    is_kept = len(kept_to) == 1 and kept_to <= served_by
    return models.resolve(old.model, next(iter(kept_to)) if is_kept else None)


def _budgets(asked: BudgetsAsked) -> Budgets:
    """Return the bounds as they are pinned, money rounded down to 1e-9 US dollars.

    Raises:
        UsageError: the cost is less than that.
    """
    cost: int | None = None
    if asked.max_cost_usd is not None:
        exact = Decimal(repr(asked.max_cost_usd)) * NANO_USD_PER_USD
        cost = int(exact.to_integral_value(ROUND_FLOOR))
        if cost < 1:
            raise UsageError(
                f"budgets.max_cost_usd={asked.max_cost_usd!r} is less than a nano-dollar; "
                "give at least 1e-9, or leave it out for no bound",
                field="budgets.max_cost_usd",
                value=asked.max_cost_usd,
            )
    bounds = asked.model_dump(exclude={"max_cost_usd"})
    return Budgets(max_cost_nano_usd=cost, **bounds)


def _checked(budgets: Budgets, alias: ModelAlias) -> Budgets:
    """Return ``budgets``; a bound on costs that nobody can know would bound nothing.

    Raises:
        UsageError: there is a bound on the cost and a route of unknown price.
    """
    unknown = [route.model for route in alias.routes if route.price is None]
    if budgets.max_cost_nano_usd is not None and unknown:
        raise UsageError(
            f"budgets.max_cost_usd can't be kept: nobody knows the price of {unknown[0]}; give "
            "its route input_usd_per_million and output_usd_per_million in the models file "
            "(MILLSTREAM_MODELS_FILE), or leave the budget out",
            field="budgets.max_cost_usd",
            value=budgets.max_cost_nano_usd / NANO_USD_PER_USD,
        )
    return budgets


def _concurrency(wanted: int, routes: tuple[Route, ...]) -> int:
    """Return the calls in flight: as asked for, but never more than a route can take."""
    caps = [route.max_concurrency for route in routes if route.max_concurrency]
    return min([wanted, *caps])


def _refuse_nul(field: str, text: str | None) -> None:
    if text and "\x00" in text:
        raise UsageError(
            f"{field} holds a NUL character (U+0000); remove it", field=field, value=text
        )
