"""From a recipe and a cell to one call's messages, response format and token limit; all pure."""

import json
from collections.abc import Mapping
from functools import lru_cache
from math import ceil
from typing import Any

from millstream.recipe_output import AXIS_FIELDS, asked_schema, longest_value
from millstream.recipe_templates import (
    PromptTemplates,
    compile_templates,
    render_template,
)
from millstream_schemas.recipes import Cell, PinnedRecipe

FEEDBACK_CHARACTERS_MAX = 500

_RECIPES_KEPT = 64

_CHARACTERS_PER_TOKEN = 2
"""Prose takes 3.4 to 4.6 characters a token; the worst text seen from a 135M model took 2.6."""

_FIELD_TOKENS = 8
_FRAME_TOKENS = 32
"""Braces, quotes and the white space of a model that indents its JSON."""


def render(  # noqa: PLR0917
    pinned: PinnedRecipe,
    cell: Cell,
    instruction: str | None,
    seed: int,
    attempt: int,
    feedback: str,
) -> list[dict[str, str]]:
    """Return the chat messages of one call: system, examples as turns of a chat, the request.

    Examples come before anything that differs between calls, so that servers which keep the state
    of a common beginning read them once. A template that doesn't use ``instruction`` or
    ``feedback`` gets them appended, so that neither is ever lost.

    Raises:
        TemplateProblemError: the template fails for this cell.
        LookupError: the cell is not one of the recipe's.
    """
    templates = _templates(pinned)
    values = templates.values(
        cell,
        instruction=instruction,
        seed=seed,
        attempt=attempt,
        feedback=feedback[:FEEDBACK_CHARACTERS_MAX],
    )
    messages: list[dict[str, str]] = []
    if templates.system is not None:
        system = render_template(templates.system, values, "system")
        if system:
            messages.append({"role": "system", "content": system})
    messages.extend({"role": role, "content": text} for role, text in _example_turns(pinned))
    parts = [render_template(templates.prompt, values, "prompt")]
    if values["instruction"] and "instruction" not in templates.variables:
        parts.append(f"Follow this instruction too: {values['instruction']}")
    if values["feedback"] and "feedback" not in templates.variables:
        parts.append(f"Your last answer was refused: {values['feedback']}. Write a better one.")
    messages.append({"role": "user", "content": "\n\n".join(parts)})
    return messages


def response_format(pinned: PinnedRecipe, cell: Cell) -> dict[str, Any]:
    """Return ``response_format`` of a chat completion: the recipe's schema, narrowed to the cell.

    Fields that hold the slot's place become constants, so an enforced answer can't miss its cell.
    ``strict`` is left out: with it some providers refuse ``maxLength`` and ``const``, without it
    they ignore what they don't know, and validation checks the answer anyway.
    """
    schema = asked_schema(pinned.recipe)
    place = cell.model_dump()
    properties = {
        name: _constant(field, place[name]) if name in AXIS_FIELDS else field
        for name, field in schema["properties"].items()
    }
    return {
        "type": "json_schema",
        "json_schema": {
            "name": pinned.recipe.name.replace("-", "_"),
            "schema": {**schema, "properties": properties},
        },
    }


@lru_cache(maxsize=_RECIPES_KEPT)
def max_tokens(pinned: PinnedRecipe) -> int:
    """Return a token limit that an answer which obeys the schema does not reach.

    Models that think before they answer need more: that is for their route to add.
    """
    properties: Mapping[str, Any] = asked_schema(pinned.recipe)["properties"]
    return _FRAME_TOKENS + sum(
        _FIELD_TOKENS + ceil((len(name) + longest_value(field)) / _CHARACTERS_PER_TOKEN)
        for name, field in properties.items()
    )


def _constant(field: Mapping[str, Any], value: str) -> dict[str, Any]:
    described = {key: field[key] for key in ("title", "description") if key in field}
    return {"type": "string", "const": value, **described}


@lru_cache(maxsize=_RECIPES_KEPT)
def _example_turns(pinned: PinnedRecipe) -> tuple[tuple[str, str], ...]:
    """Return (role, text) of every turn; answers are written as the model shall write them."""
    order = list(asked_schema(pinned.recipe)["properties"])
    turns: list[tuple[str, str]] = []
    for example in pinned.recipe.examples:
        answer = {name: example.answer[name] for name in order if name in example.answer}
        turns.append(("user", example.prompt.strip()))
        turns.append(("assistant", json.dumps(answer, ensure_ascii=False)))
    return tuple(turns)


@lru_cache(maxsize=_RECIPES_KEPT)
def _templates(pinned: PinnedRecipe) -> PromptTemplates:
    return compile_templates(pinned.recipe)
