"""What the checks of a recipe's answers need, made once per recipe."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import jsonschema_rs
from jsonschema import Draft202012Validator

from millstream.per_recipe import PerRecipe
from millstream.recipe_output import filled_fields
from millstream.recipe_templates import PromptTemplates, compile_templates
from millstream_generator.duplicates import Fingerprint, fingerprint
from millstream_schemas.recipes import Cell, PinnedRecipe

CELLS_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Rules:
    """What a recipe's checks need, made once."""

    schema: Draft202012Validator
    quick: jsonschema_rs.Draft202012Validator
    order: tuple[str, ...]
    filled: Mapping[str, str]
    fixed: frozenset[str]
    patterns: tuple[tuple[str, re.Pattern[str]], ...]
    """Each with a part, folded, of every ASCII text that it can match; may be empty."""
    templates: PromptTemplates
    examples: tuple[Fingerprint, ...]
    own: dict[tuple[str, ...], dict[str, str]] = field(default_factory=dict)

    def own_values(self, cell: Cell) -> Mapping[str, str]:
        """Return what the filled fields of a sample of ``cell`` hold."""
        place = (cell.area, cell.topic, cell.difficulty, cell.sample_type)
        known = self.own.get(place)
        if known is None:
            values = self.templates.values(cell, instruction=None, seed=0, attempt=1, feedback="")
            known = {name: values[variable] for name, variable in self.filled.items()}
            if len(self.own) < CELLS_KEPT:
                self.own[place] = known
        return known


def _make_rules(pinned: PinnedRecipe) -> Rules:
    recipe = pinned.recipe
    examples = [str(example.answer.get(recipe.text_field, "")) for example in recipe.examples]
    return Rules(
        schema=Draft202012Validator(recipe.output),
        quick=jsonschema_rs.Draft202012Validator(recipe.output),
        order=tuple(recipe.output["properties"]),
        filled=filled_fields(recipe),
        fixed=frozenset(recipe.fixed),
        patterns=tuple(
            (_fixed_part(text), re.compile(text, re.IGNORECASE)) for text in recipe.refuse_patterns
        ),
        templates=compile_templates(recipe),
        examples=tuple(fingerprint(text) for text in examples),
    )


def _fixed_part(pattern: str) -> str:
    """Return the longest run of plain characters that a match can't do without, folded."""
    if re.search(r"[\\\[{^$*+]|\(\?", pattern):
        return ""
    without_groups = re.sub(r"\([^()]*\)\??|.\?", "\0", pattern)
    if "|" in without_groups or "(" in without_groups:
        return ""
    return max(re.split(r"[\0.]", without_groups), key=len).casefold()


rules_of = PerRecipe(_make_rules)
