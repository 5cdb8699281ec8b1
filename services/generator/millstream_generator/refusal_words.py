"""Words for what is wrong with an answer: the field and the reason first, then its value cut short.

What the model wrote stands between straight double quotes and holds none. So messages that differ
only in values are of one form, by which errors are put into groups, and none loses its reason.
"""

from collections.abc import Callable, Mapping
from typing import Any

from jsonschema import ValidationError

VALUE_CHARACTERS_MAX = 120
_REASONS: Mapping[str, Callable[[Any, Any], str]] = {
    "type": lambda wanted, _: f"is not of type {wanted}",
    "const": lambda wanted, _: f"is not {quoted(wanted)}",
    "enum": lambda wanted, _: f"is not one of {clip(', '.join(map(str, wanted)), 200)}",
    "minLength": lambda least, text: f"is too short ({len(text)} characters, {least} at least)",
    "maxLength": lambda most, text: f"is too long ({len(text)} characters, {most} at most)",
    "minimum": lambda least, _: f"is less than {least}",
    "maximum": lambda most, _: f"is more than {most}",
    "multipleOf": lambda unit, _: f"is not a multiple of {unit}",
}
"""By the keyword of a recipe's output; of the keyword's value and the answer's."""


def schema_words(error: ValidationError) -> str:
    """Return what is wrong with an answer that does not obey its recipe's output."""
    keyword = str(error.validator)
    wanted: Any = error.validator_value
    given: Any = error.instance
    schema: Any = error.schema
    if keyword == "required":
        return f"{next(name for name in wanted if name not in given)} is missing; write it"
    if keyword == "additionalProperties":
        extra = [name for name in given if name not in schema["properties"]]
        return f"the answer has fields that were not asked for: {quoted(', '.join(extra))}"
    where = ".".join(str(part) for part in error.absolute_path) or "the answer"
    reason = _REASONS.get(keyword, lambda *_: f"does not obey {keyword}")
    return f"{where} {reason(wanted, given)}: {quoted(given)}"


def quoted(value: object) -> str:
    """Return a value as one line between double quotes, cut short."""
    text = clip(value if isinstance(value, str) else repr(value), VALUE_CHARACTERS_MAX)
    plain = "".join(sign if sign.isprintable() else " " for sign in text)
    return '"{}"'.format(plain.replace('"', "'"))


def clip(text: str, limit: int) -> str:
    """Return ``text``, or so much of it that it has ``limit`` characters with its mark."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
