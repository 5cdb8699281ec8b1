import pytest

from millstream.errors import UsageError
from millstream.models import ModelBook
from millstream.recipes import RecipeBook, recipe_directories
from millstream.runtime.settings import Settings
from millstream.specs import build_spec, slice_size_of
from millstream_schemas.commands import StartBatch
from millstream_schemas.control import BatchSpec

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
