"""What a batch pins: from a start, from a parent that left slots open, and from a clone."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from millstream import call_bounds
from millstream.call_bounds import call_bound, check_budgets
from millstream.domain.batch_state import BatchState
from millstream.domain.budget import affordable
from millstream.domain.plan import Plan
from millstream.errors import UsageError
from millstream.models import ModelBook
from millstream.recipes import RecipeBook, recipe_directories
from millstream.runtime.settings import Settings
from millstream.specs import build_spec, clone_spec, refill_spec, slice_size_of
from millstream.testing.events import Script
from millstream.testing.examples import example_recipe, example_spec
from millstream_schemas.commands import CloneOverrides, RefillOverrides, StartBatch
from millstream_schemas.control import BatchSpec, Budgets, CellQuota
from millstream_schemas.routes import ModelAlias, Price, Route

SETTINGS = Settings(simulated_url="http://127.0.0.1:9", local_url="http://127.0.0.1:8")
RECIPES = RecipeBook.load(recipe_directories(None))


def spec_of(**fields: object) -> BatchSpec:
    command = StartBatch.model_validate({"target": 100, **fields})
    models = ModelBook.load(SETTINGS, {})
    return build_spec(command, models=models, recipes=RECIPES, settings=SETTINGS)


@pytest.mark.parametrize(
    ("target", "size"), [(1, 1), (32, 1), (33, 2), (640, 20), (2048, 64), (1_000_000, 64)]
)
def test_a_batch_is_cut_into_about_32_slices_of_at_most_64_slots(target: int, size: int) -> None:
    assert slice_size_of(target) == size


def test_what_the_command_leaves_out_takes_the_default() -> None:
    spec = spec_of()
    assert (spec.model, spec.recipe.recipe.name) == ("local/smollm2-135m", "legal-qa")
    assert spec.recipe == RECIPES.pin("legal-qa")
    assert spec_of().seed != spec.seed


def test_a_route_caps_the_concurrency() -> None:
    assert spec_of(concurrency=100).concurrency == 4
    assert spec_of(concurrency=100, model="simulated/fast").concurrency == 100
    assert spec_of(model="simulated/fast").concurrency == SETTINGS.batch_concurrency


def test_the_seed_asked_for_is_the_seed() -> None:
    assert spec_of(seed=0).seed == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("recipe", "no-such"),
        ("recipe", ""),
        ("model", ""),
        ("model", "no-such"),
        ("provider", "no-such"),
        ("topic", "No - Such"),
        ("difficulty", "impossible"),
        ("sample_type", "poem"),
        ("instruction", "a\x00b"),
    ],
)
def test_a_choice_that_does_not_exist_is_refused_by_its_field(field: str, value: str) -> None:
    with pytest.raises(UsageError) as caught:
        spec_of(**{field: value})
    assert caught.value.field == field


PRICED = Route(
    model="own/priced",
    provider="own",
    litellm_model="openai/priced",
    price=Price(input_nano_usd_per_1k=1000, output_nano_usd_per_1k=2000),
)
OTHER = PRICED.model_copy(update={"model": "other/unpriced", "provider": "other", "price": None})
BOOK = ModelBook(
    [
        ModelAlias(id="priced", name="Priced", routes=(PRICED,)),
        ModelAlias(id="both", name="Both", routes=(PRICED, OTHER)),
    ],
    default_model="priced",
    environment={},
)


def priced(**budgets: object) -> BatchSpec:
    command = StartBatch.model_validate({"target": 10, "budgets": budgets})
    return build_spec(command, models=BOOK, recipes=RECIPES, settings=SETTINGS)


def test_money_is_pinned_in_nano_dollars_and_rounded_down() -> None:
    assert priced(max_cost_usd=0.1).budgets.max_cost_nano_usd == 100_000_000
    assert priced(max_cost_usd=1.9999999999).budgets.max_cost_nano_usd == 1_999_999_999
    assert priced(max_cost_usd=1e-9).budgets.max_cost_nano_usd == 1
    bounds = {"max_tokens": 5, "max_duration_s": 1.5, "max_failure_ratio": 0.0, "max_attempts": 7}
    assert priced(**bounds).budgets.model_dump(exclude_none=True) == bounds
    with pytest.raises(UsageError, match="less than a nano-dollar"):
        priced(max_cost_usd=1e-10)


@pytest.mark.parametrize("provider", [None, "other"])
def test_a_bound_on_a_cost_that_nobody_knows_is_refused(provider: str | None) -> None:
    body = {"target": 10, "model": "both", "provider": provider, "budgets": {"max_cost_usd": 1.0}}
    command = StartBatch.model_validate(body)
    with pytest.raises(UsageError, match=r"other/unpriced.*input_usd_per_million") as caught:
        build_spec(command, models=BOOK, recipes=RECIPES, settings=SETTINGS)
    assert caught.value.field == "budgets.max_cost_usd"
    free = body | {"budgets": {"max_tokens": 5}}
    command = StartBatch.model_validate(free)
    assert build_spec(command, models=BOOK, recipes=RECIPES, settings=SETTINGS).budgets.max_tokens


def test_a_budget_that_lets_no_call_start_is_refused_with_the_smallest_that_does() -> None:
    for name, field in (("max_tokens", "max_tokens"), ("max_cost_usd", "max_cost_nano_usd")):
        with pytest.raises(UsageError) as caught:
            check_budgets(priced(**{name: 10 if name == "max_tokens" else 1e-7}))
        assert caught.value.field == f"budgets.{name}"
        assert caught.value.value == (10 if name == "max_tokens" else 1e-7)
        found = re.search(r"give at least ([\d.]+)", str(caught.value))
        assert found
        least = int(found[1]) if name == "max_tokens" else float(found[1])
        enough = priced(**{name: least})
        check_budgets(enough)
        pinned = getattr(enough.budgets, field)
        assert affordable(enough.budgets, BatchState("x"), call_bound(enough), 0) == 1
        short = enough.budgets.model_copy(update={field: pinned - 1})
        with pytest.raises(UsageError):
            check_budgets(enough.model_copy(update={"budgets": short}))


def test_what_costs_nothing_fits_any_budget_and_other_bounds_are_none_of_use() -> None:
    free = priced(max_cost_usd=1e-9, max_attempts=1, max_duration_s=0.1)
    price = Price(input_nano_usd_per_1k=0, output_nano_usd_per_1k=0)
    route = PRICED.model_copy(update={"price": price})
    check_budgets(free.model_copy(update={"routes": (route,)}))
    check_budgets(priced(max_attempts=1, max_duration_s=0.1, max_failure_ratio=0.0))


def test_a_recipe_that_would_be_searched_for_long_is_left_to_the_first_look_at_its_budgets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = priced(max_tokens=10)
    monkeypatch.setattr(call_bounds, "_SEARCH_MOST", 1)
    check_budgets(small)


def test_many_that_ask_for_the_same_recipe_at_once_search_it_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = priced(max_tokens=10).model_copy(update={"instruction": "Asked for by four at once."})
    looked: list[object] = []
    tokens_of = call_bounds._prompt_tokens

    def counted(*told: Any) -> int:
        looked.append(told)
        return tokens_of(*told)

    monkeypatch.setattr(call_bounds, "_prompt_tokens", counted)
    with ThreadPoolExecutor(4) as pool:
        bounds = set(pool.map(call_bound, [spec] * 4))
    assert len(bounds) == 1
    assert len(looked) == len(Plan(spec).quotas())


def parent(**fields: object) -> BatchState:
    body = {"target": 40, "model": "both", "concurrency": 7, "topic": None, **fields}
    command = StartBatch.model_validate(body)
    spec = build_spec(command, models=BOOK, recipes=RECIPES, settings=SETTINGS)
    script = Script(spec=spec)
    script.start()
    script.set_priority("low")
    return script.state


def refilled(state: BatchState, **overrides: object) -> BatchSpec:
    asked = RefillOverrides.model_validate(overrides)
    quotas = (CellQuota(cell=1, count=2), CellQuota(cell=3, count=1))
    return refill_spec(state, asked, quotas, models=BOOK)


def test_a_child_is_as_its_parent_but_for_its_slots_and_its_seed() -> None:
    state = parent(budgets={"max_tokens": 900}, instruction="Be brief", max_attempts=5)
    child, old = refilled(state), state.spec
    assert (child.target, child.slice_size, len(child.quotas or ())) == (3, 1, 2)
    assert child.seed != old.seed
    same = ("recipe", "model", "concurrency", "max_attempts", "instruction", "budgets", "topic")
    assert [getattr(child, name) for name in same] == [getattr(old, name) for name in same]
    assert [route.model for route in child.routes] == ["own/priced", "other/unpriced"]
    assert child.priority == "low"  # the present one, not that of the start


def test_a_child_does_otherwise_what_it_is_told() -> None:
    child = refilled(
        parent(budgets={"max_tokens": 900}),
        model="priced",
        concurrency=3,
        seed=11,
        max_attempts=1,
        priority="high",
        budgets={"max_cost_usd": 2.0},
    )
    assert (child.model, child.concurrency, child.seed) == ("priced", 3, 11)
    assert (child.max_attempts, child.priority) == (1, "high")
    assert (child.budgets.max_tokens, child.budgets.max_cost_nano_usd) == (None, 2_000_000_000)
    assert refilled(parent(), provider="own").routes == (PRICED,)


def test_what_follows_a_batch_stays_in_its_pool_unless_told_otherwise() -> None:
    state = parent(pool="gpu")
    assert (state.spec.pool, parent().spec.pool) == ("gpu", SETTINGS.pool)
    assert (refilled(state).pool, cloned(state).pool) == ("gpu", "gpu")
    assert (refilled(state, pool="cpu").pool, cloned(state, pool="cpu").pool) == ("cpu", "cpu")


def test_a_child_keeps_to_the_provider_of_its_parent() -> None:
    state = parent(provider="other")
    assert [route.provider for route in refilled(state).routes] == ["other"]
    assert [route.provider for route in refilled(state, model="both").routes] == ["own", "other"]


def test_a_child_inherits_a_bound_on_the_cost_and_with_it_the_need_of_a_price() -> None:
    state = parent(model="priced", budgets={"max_cost_usd": 1.0})
    assert refilled(state).budgets.max_cost_nano_usd == 10**9
    with pytest.raises(UsageError, match="nobody knows the price of other/unpriced"):
        refilled(state, model="both")
    assert refilled(state, model="both", budgets={}).budgets == Budgets()


def cloned(state: BatchState, **overrides: object) -> BatchSpec:
    asked = CloneOverrides.model_validate(overrides)
    return clone_spec(state, asked, models=BOOK, recipes=RECIPES)


def test_a_clone_is_as_its_model_but_for_what_it_is_told() -> None:
    state = parent(difficulty="advanced", instruction="Be brief", smart_mode=True)
    old = state.spec
    clone = cloned(state)
    assert clone.seed != old.seed
    assert clone.model_copy(update={"seed": old.seed, "priority": old.priority}) == old
    other = cloned(
        state, target=640, difficulty=None, instruction="Be long", smart_mode=False, model="priced"
    )
    assert (other.target, other.slice_size, other.difficulty) == (640, 20, None)
    assert (other.instruction, other.smart_mode, other.model) == ("Be long", False, "priced")


def test_a_clone_uses_the_pinned_recipe_even_when_its_file_has_gone() -> None:
    recipe = example_recipe("long-gone")
    script = Script(spec=example_spec(4, recipe=recipe, model="priced"))
    script.start()
    assert cloned(script.state).recipe.recipe == recipe
    assert cloned(script.state, recipe="legal-qa").recipe == RECIPES.pin("legal-qa")
    script = Script(spec=example_spec(4, recipe=recipe, model="priced", topic="Law - Torts"))
    script.start()
    with pytest.raises(UsageError, match="topic 'Law - Torts' is not one of the recipe's"):
        cloned(script.state, recipe="legal-qa")


def test_a_clone_of_a_child_keeps_its_cells_unless_it_asks_for_others() -> None:
    quotas = (CellQuota(cell=2, count=4),)
    script = Script(spec=example_spec(4, model="priced", quotas=quotas))
    script.start()
    assert cloned(script.state).quotas == quotas
    assert cloned(script.state, target=4, priority="high").quotas == quotas
    assert cloned(script.state, target=5).quotas is None
    assert cloned(script.state, difficulty="basic").quotas is None
