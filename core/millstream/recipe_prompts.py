"""From a recipe and a cell to one call's messages, response format and token limit; all pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from jinja2 import meta

from millstream.per_recipe import PerRecipe
from millstream.recipe_output import AXIS_FIELDS, asked_schema, longest_value
from millstream.recipe_templates import (
    PromptTemplates,
    compile_templates,
    render_template,
)
from millstream_schemas.recipes import Cell, PinnedRecipe

FEEDBACK_CHARACTERS_MAX = 500

_KEPT = 4096
"""Texts and schemas kept per recipe; a recipe may have more cells than that."""

_OF_THE_CALL = frozenset({"seed", "feedback"})
"""Variables that make nearly every call's text another one."""

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
    parts = _parts(pinned)
    system, text = parts.texts(cell, instruction, seed, attempt, feedback[:FEEDBACK_CHARACTERS_MAX])
    messages: list[dict[str, str]] = []
    if system:
        messages.append({"role": "system", "content": system})
    messages.extend(parts.examples)
    used = parts.templates.variables
    if instruction and "instruction" not in used:
        text = f"{text}\n\nFollow this instruction too: {instruction}"
    if feedback and "feedback" not in used:
        refused = feedback[:FEEDBACK_CHARACTERS_MAX]
        text = f"{text}\n\nYour last answer was refused: {refused}. Write a better one."
    messages.append({"role": "user", "content": text})
    return messages


def response_format(pinned: PinnedRecipe, cell: Cell) -> dict[str, Any]:
    """Return ``response_format`` of a chat completion: the recipe's schema, narrowed to the cell.

    Fields that hold the slot's place become constants, so an enforced answer can't miss its cell.
    ``strict`` is left out: with it some providers refuse ``maxLength`` and ``const``, without it
    they ignore what they don't know, and validation checks the answer anyway.
    """
    parts = _parts(pinned)
    place = (cell.area, cell.topic, cell.difficulty, cell.sample_type)
    known = parts.formats.get(place)
    if known is not None:
        return known
    properties = {
        name: _constant(value, getattr(cell, name)) if name in AXIS_FIELDS else value
        for name, value in parts.schema["properties"].items()
    }
    made = {
        "type": "json_schema",
        "json_schema": {
            "name": parts.name.replace("-", "_"),
            "schema": {**parts.schema, "properties": properties},
        },
    }
    if len(parts.formats) < _KEPT:
        parts.formats[place] = made
    return made


def max_tokens(pinned: PinnedRecipe) -> int:
    """Return a token limit that an answer which obeys the schema does not reach.

    Models that think before they answer need more: that is for their route to add.
    """
    return _parts(pinned).max_tokens


def _constant(field: Mapping[str, Any], value: str) -> dict[str, Any]:
    described = {key: field[key] for key in ("title", "description") if key in field}
    return {"type": "string", "const": value, **described}


def _longest_answer(schema: Mapping[str, Any]) -> int:
    return _FRAME_TOKENS + sum(
        _FIELD_TOKENS + ceil((len(name) + longest_value(value)) / _CHARACTERS_PER_TOKEN)
        for name, value in schema["properties"].items()
    )


def _example_turns(pinned: PinnedRecipe, order: Iterable[str]) -> tuple[dict[str, str], ...]:
    """Return the messages of every turn; answers are written as the model shall write them."""
    turns: list[dict[str, str]] = []
    for example in pinned.recipe.examples:
        answer = {name: example.answer[name] for name in order if name in example.answer}
        turns.append({"role": "user", "content": example.prompt.strip()})
        turns.append({"role": "assistant", "content": json.dumps(answer, ensure_ascii=False)})
    return tuple(turns)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the prompts of one recipe have in common; shared by all calls, so never changed."""

    name: str
    templates: PromptTemplates
    schema: Mapping[str, Any]
    examples: tuple[dict[str, str], ...]
    max_tokens: int
    system_varies: bool
    """Whether each call has a system message of its own."""
    formats: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
    systems: dict[tuple[object, ...], str] = field(default_factory=dict)

    def texts(
        self, cell: Cell, instruction: str | None, seed: int, attempt: int, feedback: str
    ) -> tuple[str, str]:
        """Return system message and request; the system message is rendered once a cell."""
        values = self.templates.values(
            cell, instruction=instruction, seed=seed, attempt=attempt, feedback=feedback
        )
        request = render_template(self.templates.prompt, values, "prompt")
        system = self.templates.system
        if system is None:
            return "", request
        if self.system_varies:
            return render_template(system, values, "system"), request
        key = (cell.area, cell.topic, cell.difficulty, cell.sample_type, instruction, attempt)
        known = self.systems.get(key)
        if known is None:
            known = render_template(system, values, "system")
            if len(self.systems) < _KEPT:
                self.systems[key] = known
        return known, request


def _make_parts(pinned: PinnedRecipe) -> _Parts:
    recipe = pinned.recipe
    schema = asked_schema(recipe)
    templates = compile_templates(recipe)
    used = meta.find_undeclared_variables(templates.prompt.environment.parse(recipe.system))
    return _Parts(
        name=recipe.name,
        templates=templates,
        schema=schema,
        examples=_example_turns(pinned, schema["properties"]),
        max_tokens=_longest_answer(schema),
        system_varies=not _OF_THE_CALL.isdisjoint(used),
    )


_parts = PerRecipe(_make_parts)
