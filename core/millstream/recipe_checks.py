"""What a recipe must fulfil beyond its types, so that a bad one is refused when it is read."""

import json
import re

from millstream.recipe_output import (
    RecipeProblemError,
    check_examples,
    check_filled_fields,
    check_output,
    check_regex,
)
from millstream.recipe_templates import compile_templates, render_template
from millstream_schemas.recipes import Cell, Recipe

RECIPE_BYTES_MAX = 256 * 1024
"""A batch's first event carries the whole recipe, and a message of the log has a limit."""

_EXTRA = re.compile(r"^[a-z][a-z0-9_]{0,63}$")
_RESERVED = frozenset(
    {
        "model", "messages", "stream", "stream_options", "response_format", "max_tokens",
        "max_completion_tokens", "seed", "temperature", "top_p", "n", "timeout", "base_url",
        "headers", "extra_headers", "extra_body", "user", "metadata", "fallbacks", "num_retries",
        "custom_llm_provider", "mock_response",
    }
)  # fmt: skip


def check_recipe(recipe: Recipe) -> None:
    """Return when a batch can be made with ``recipe``.

    Raises:
        UsageError: the first thing that is wrong; it names field, value and remedy.
    """
    _check_size(recipe)
    check_output(recipe)
    check_filled_fields(recipe)
    check_examples(recipe)
    _check_patterns(recipe)
    _check_extra(recipe)
    _check_templates(recipe)


def canonical_json(recipe: Recipe) -> bytes:
    """Return the bytes that are hashed: compact JSON, fields in the order of the model.

    ``output`` keeps the file's order: models write fields in it, so it is part of the content.

    Raises:
        ValueError: the recipe holds a number that JSON can't carry.
    """
    document = recipe.model_dump(mode="json")
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode()


def _check_size(recipe: Recipe) -> None:
    try:
        size = len(canonical_json(recipe))
    except (TypeError, ValueError) as error:
        raise RecipeProblemError(
            f"holds what JSON can't carry ({error}); use texts, finite numbers, true and false",
            field="output or sampling.extra",
        ) from error
    if size > RECIPE_BYTES_MAX:
        raise RecipeProblemError(
            f"a recipe may take at most {RECIPE_BYTES_MAX} bytes; shorten prompt or topics",
            field="recipe",
            value=f"{size} bytes",
        )


def _check_patterns(recipe: Recipe) -> None:
    for index, pattern in enumerate(recipe.refuse_patterns):
        check_regex(f"refuse_patterns[{index}]", pattern)
        if re.search(pattern, "") is not None:
            raise RecipeProblemError(
                "matches the empty text, so every answer would be refused; make it narrower",
                field=f"refuse_patterns[{index}]",
                value=pattern,
            )


def _check_extra(recipe: Recipe) -> None:
    for name, value in recipe.sampling.extra.items():
        if not _EXTRA.match(name) or name in _RESERVED or name.startswith("api_"):
            raise RecipeProblemError(
                "is not a decoding parameter that a recipe may set; remove it",
                field=f"sampling.extra.{name}",
                value=value,
            )


def _check_templates(recipe: Recipe) -> None:
    """Render the prompt for every topic, difficulty and sample type at least once."""
    templates = compile_templates(recipe)
    axes = (recipe.topics, recipe.difficulties, recipe.sample_types)
    # Twice the longest axis: each entry is met in a first attempt and in a later one.
    for index in range(2 * max(map(len, axes))):
        topic = recipe.topics[index // 2 % len(recipe.topics)]
        cell = Cell(
            area=topic.area,
            topic=topic.topic,
            difficulty=recipe.difficulties[index // 2 % len(recipe.difficulties)].id,
            sample_type=recipe.sample_types[index // 2 % len(recipe.sample_types)].id,
        )
        note = "a note" if index % 2 else ""
        values = templates.values(
            cell, instruction=note, seed=index, attempt=1 + index % 2, feedback=note
        )
        if templates.system is not None:
            render_template(templates.system, values, "system")
        if not render_template(templates.prompt, values, "prompt"):
            raise RecipeProblemError(
                "the prompt is empty for some cell; write what the model shall do",
                field="prompt",
                value=cell.topic,
            )
