"""All that one call of a batch asks for; pure."""

from millstream.recipe_prompts import max_tokens, render, response_format
from millstream_generator.completion import Progress, Prompt, priced
from millstream_schemas.control import BatchSpec
from millstream_schemas.recipes import Cell
from millstream_schemas.routes import Route
from millstream_schemas.slices import Usage

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


def estimated_use(route: Route, prompt: Prompt, progress: Progress) -> Usage:
    """Return what a call that was cancelled may have used: nothing if it had not begun."""
    if not progress.started_at:
        return Usage()
    tokens_in = tokens_of(prompt)
    tokens_out = progress.characters // CHARACTERS_PER_TOKEN
    return Usage(
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost_nano_usd=priced(route, tokens_in, tokens_out),
        latency_ms=progress.elapsed_ms,
    )
