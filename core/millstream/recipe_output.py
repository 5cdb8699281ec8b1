"""Checks of a recipe's output schema: one flat object whose worst case has a bound."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from millstream.errors import UsageError
from millstream.wording import one_of
from millstream_schemas.recipes import Recipe

AXIS_FIELDS = ("area", "topic", "difficulty", "sample_type")
"""Output fields that, where a recipe has them, always hold the place of the slot."""

FIXED_VARIABLES = (*AXIS_FIELDS, "note", "source", "sample_type_name")
"""Variables that ``fixed`` may put into a field."""

FIELD_CHARACTERS_MAX = 20_000
ANSWER_CHARACTERS_MAX = 60_000

_OBJECT_KEYWORDS = frozenset(
    {"$schema", "type", "title", "description", "properties", "required", "additionalProperties"}
)
_COMMON = frozenset({"type", "title", "description", "const", "enum"})
_KEYWORDS: Mapping[str, frozenset[str]] = {
    "string": _COMMON | {"minLength", "maxLength"},
    "integer": _COMMON | {"minimum", "maximum", "multipleOf"},
    "number": _COMMON | {"minimum", "maximum", "multipleOf"},
    "boolean": _COMMON,
}


class RecipeProblemError(UsageError, ValueError):
    """One thing that is wrong with a recipe: ``field``, ``value`` and, in words, the remedy."""


def check_output(recipe: Recipe) -> None:
    """Return when ``output`` describes one flat object whose worst case has a bound.

    Raises:
        RecipeProblemError: it does not.
    """
    schema = recipe.output
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        path = ".".join(["output", *(str(part) for part in error.absolute_path)])
        raise RecipeProblemError(
            f"is not a valid JSON Schema: {error.message[:300]}; correct it", field=path
        ) from error
    _check_keywords("output", schema, _OBJECT_KEYWORDS)
    if schema.get("type") != "object":
        raise RecipeProblemError(
            "a sample is one object; write 'object'", field="output.type", value=schema.get("type")
        )
    if schema.get("additionalProperties") is not False:
        raise RecipeProblemError(
            "only the named fields may be answered; write 'additionalProperties = false'",
            field="output.additionalProperties",
            value=schema.get("additionalProperties"),
        )
    properties = schema.get("properties") or {}
    if not properties:
        raise RecipeProblemError("name at least one field", field="output.properties", value={})
    for name, field in properties.items():
        _check_property(f"output.properties.{name}", field)
    for name in schema.get("required", []):
        if name not in properties:
            raise RecipeProblemError(
                f"no such property; {one_of(name, properties)}", field="output.required", value=name
            )
    total = sum(longest_value(field) for field in properties.values())
    if total > ANSWER_CHARACTERS_MAX:
        raise RecipeProblemError(
            f"all fields together may take at most {ANSWER_CHARACTERS_MAX} characters;"
            " lower some maxLength",
            field="output.properties",
            value=total,
        )
    _check_text_field(recipe, properties)


def longest_value(field: Mapping[str, Any]) -> int:
    """Return how many characters the longest value of a property takes, without quotes."""
    if "const" in field:
        return len(_plain(field["const"]))
    if "enum" in field:
        return max(len(_plain(value)) for value in field["enum"])
    match field.get("type"):
        case "string":
            return int(field["maxLength"])
        case "boolean":
            return len("false")
        case _:
            return 24  # The digits of a double with sign, point and exponent.


def filled_fields(recipe: Recipe) -> dict[str, str]:
    """Return output field -> variable for the fields that the recipe fills, not the model."""
    properties = recipe.output["properties"]
    return {name: name for name in AXIS_FIELDS if name in properties} | recipe.fixed


def asked_schema(recipe: Recipe) -> dict[str, Any]:
    """Return the part of ``output`` that the model is asked for: all but the fixed fields."""
    properties = recipe.output["properties"]
    required = recipe.output.get("required", [])
    return {
        **recipe.output,
        "properties": {key: value for key, value in properties.items() if key not in recipe.fixed},
        "required": [name for name in required if name not in recipe.fixed],
    }


def check_filled_fields(recipe: Recipe) -> None:
    """Return when the fields that the recipe itself fills take each of its own values.

    Raises:
        RecipeProblemError: one does not, or ``fixed`` names what doesn't exist.
    """
    properties = recipe.output["properties"]
    for name, variable in recipe.fixed.items():
        if name not in properties or name == recipe.text_field:
            others = [key for key in properties if key != recipe.text_field]
            raise RecipeProblemError(
                f"no field of output that could be fixed; {one_of(name, others)}",
                field=f"fixed.{name}",
                value=variable,
            )
        if variable not in FIXED_VARIABLES:
            raise RecipeProblemError(
                f"no variable of a cell; {one_of(variable, FIXED_VARIABLES)}",
                field=f"fixed.{name}",
                value=variable,
            )
    own_values = list(_own_values(recipe))
    for name, variable in filled_fields(recipe).items():
        check = Draft202012Validator(properties[name])
        for value in (text for key, text in own_values if key == variable):
            if not check.is_valid(value):
                raise RecipeProblemError(
                    f"does not take the recipe's own {variable} {value!r}; widen its length or"
                    " enum, or give the topic what it lacks",
                    field=f"output.properties.{name}",
                    value=properties[name],
                )


def check_examples(recipe: Recipe) -> None:
    """Return when every example's answer is what the model shall write.

    Raises:
        RecipeProblemError: one is not.
    """
    check = Draft202012Validator(asked_schema(recipe))
    for index, example in enumerate(recipe.examples):
        error = next(check.iter_errors(example.answer), None)
        if error is not None:
            path = ".".join([f"examples[{index}].answer", *map(str, error.absolute_path)])
            raise RecipeProblemError(
                f"does not obey output: {error.message[:300]}; correct it (fixed fields stay out)",
                field=path,
            )


def check_regex(where: str, pattern: str) -> None:
    """Return when ``pattern`` compiles.

    Raises:
        RecipeProblemError: it does not.
    """
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise RecipeProblemError(
            f"is not a regular expression ({error}); correct or escape it",
            field=where,
            value=pattern,
        ) from error


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _check_keywords(where: str, schema: Mapping[str, Any], known: frozenset[str]) -> None:
    for keyword in schema:
        if keyword not in known:
            raise RecipeProblemError(
                f"is not allowed here (a sample is flat); {one_of(keyword, sorted(known))}",
                field=f"{where}.{keyword}",
                value=schema[keyword],
            )


def _check_property(where: str, field: Any) -> None:
    if not isinstance(field, dict):
        raise RecipeProblemError("write a table with a type", field=where, value=field)
    kind = field.get("type")
    if not isinstance(kind, str) or kind not in _KEYWORDS:
        raise RecipeProblemError(
            f"a field is a single plain value; use one of: {', '.join(_KEYWORDS)}",
            field=f"{where}.type",
            value=kind,
        )
    _check_keywords(where, field, _KEYWORDS[kind])
    choices = [field["const"]] if "const" in field else field.get("enum")
    if choices == []:
        raise RecipeProblemError("name at least one value", field=f"{where}.enum", value=[])
    if choices is not None:
        bad = [
            value for value in choices if not Draft202012Validator({"type": kind}).is_valid(value)
        ]
        if bad:
            raise RecipeProblemError(f"is not of type {kind}", field=where, value=bad[0])
    elif kind == "string":
        _check_bounded_string(where, field)
    elif kind in {"integer", "number"} and not {"minimum", "maximum"} <= field.keys():
        raise RecipeProblemError(
            "a number needs minimum and maximum: they bound an answer's length", field=where
        )


def _check_bounded_string(where: str, field: Mapping[str, Any]) -> None:
    longest = field.get("maxLength")
    if longest is None or not 1 <= longest <= FIELD_CHARACTERS_MAX:
        raise RecipeProblemError(
            f"every string needs a maxLength of 1 to {FIELD_CHARACTERS_MAX} (or enum, or const):"
            " it bounds an answer's length",
            field=f"{where}.maxLength",
            value=longest,
        )
    if field.get("minLength", 0) > longest:
        raise RecipeProblemError(
            f"is above maxLength ({longest}); lower it",
            field=f"{where}.minLength",
            value=field["minLength"],
        )


def _check_text_field(recipe: Recipe, properties: Mapping[str, Any]) -> None:
    name = recipe.text_field
    texts = [key for key, field in properties.items() if _is_text(field)]
    if name not in texts or name not in recipe.output.get("required", []):
        raise RecipeProblemError(
            "must be a required string of output that the model writes (no const, no enum);"
            f" such strings: {', '.join(texts) or 'none'}",
            field="text_field",
            value=name,
        )


def _is_text(field: Mapping[str, Any]) -> bool:
    return field["type"] == "string" and not {"const", "enum"} & field.keys()


def _own_values(recipe: Recipe) -> Iterator[tuple[str, str]]:
    for topic in recipe.topics:
        yield "area", topic.area
        yield "topic", topic.topic
        yield "note", topic.note
        yield "source", topic.source
    for level in recipe.difficulties:
        yield "difficulty", level.id
    for kind in recipe.sample_types:
        yield "sample_type", kind.id
        yield "sample_type_name", kind.name
