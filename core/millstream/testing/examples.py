"""A small recipe, spec and plan of cells, for tests and benches."""

from typing import Any

from millstream_schemas import control
from millstream_schemas.recipes import (
    Cell,
    Difficulty,
    PinnedRecipe,
    Recipe,
    SampleType,
    Topic,
)
from millstream_schemas.routes import Route


def example_recipe(name: str = "example") -> Recipe:
    """Return a small recipe with two topics, levels and sample types."""
    return Recipe(
        name=name,
        title="Example",
        prompt="Write about {{ topic }}.",
        output={
            "type": "object",
            "properties": {
                "question": {"type": "string", "maxLength": 200},
                "answer": {"type": "string", "maxLength": 1000},
            },
            "required": ["question", "answer"],
        },
        text_field="question",
        topics=(Topic(area="Law", topic="Contracts"), Topic(area="Law", topic="Torts")),
        difficulties=(Difficulty(id="basic"), Difficulty(id="advanced")),
        sample_types=(
            SampleType(id="case_analysis", name="Case analysis"),
            SampleType(id="educational", name="Educational"),
        ),
    )


def example_spec(
    target: int = 10,
    *,
    slice_size: int = 4,
    model: str = "simulated/fast",
    recipe: Recipe | None = None,
    **fields: Any,
) -> control.BatchSpec:
    """Return a spec of ``target`` samples; ``fields`` are further ones of BatchSpec."""
    route = Route(model=model, provider="simulated", litellm_model=f"openai/{model}")
    pinned = PinnedRecipe(content_hash="sha256:" + "0" * 64, recipe=recipe or example_recipe())
    defaults: dict[str, Any] = {"seed": 1, "concurrency": 8}
    return control.BatchSpec(
        recipe=pinned,
        model=model,
        routes=(route,),
        target=target,
        slice_size=slice_size,
        **{**defaults, **fields},
    )


def example_cell(spec: control.BatchSpec, slot: int) -> Cell:
    """Return a cell for ``slot`` that walks evenly over the recipe's axes."""
    recipe = spec.recipe.recipe
    topic = recipe.topics[slot % len(recipe.topics)]
    return Cell(
        area=topic.area,
        topic=topic.topic,
        difficulty=recipe.difficulties[slot % len(recipe.difficulties)].id,
        sample_type=recipe.sample_types[slot % len(recipe.sample_types)].id,
    )
