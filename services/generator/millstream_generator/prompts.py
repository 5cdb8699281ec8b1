"""All that one call of a batch asks for; pure."""

from millstream.recipe_prompts import max_tokens, render, response_format
from millstream_generator.completion import Prompt
from millstream_schemas.control import BatchSpec
from millstream_schemas.recipes import Cell

CHARACTERS_PER_TOKEN = 4


def call(  # noqa: PLR0917
    batch_id: str, spec: BatchSpec, cell: Cell, seed: int, attempt: int, feedback: str = ""
) -> Prompt:
    """Return all that one call of a batch asks for; raises as ``render``."""
    recipe = spec.recipe.recipe
    return Prompt(
        batch_id=batch_id,
        messages=render(spec.recipe, cell, spec.instruction, seed, attempt, feedback),
        response_format=response_format(spec.recipe, cell) if recipe.structured else None,
        max_tokens=max_tokens(spec.recipe),
        seed=seed,
        temperature=recipe.sampling.temperature,
        top_p=recipe.sampling.top_p,
        extra=recipe.sampling.extra,
    )


def tokens_of(prompt: Prompt) -> int:
    """Return about how many tokens a prompt has."""
    characters = sum(len(message["content"]) for message in prompt.messages)
    return characters // CHARACTERS_PER_TOKEN
