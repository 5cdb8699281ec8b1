"""Answers that any recipe takes: filled in from the response format, no two alike."""

import itertools
import random
from typing import Any

import orjson

LENGTH = 90
_BEGINNINGS = ("ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo")
_ENDINGS = ("ban", "cel", "dim", "for", "gus", "kat", "lem", "mir", "nos", "pul", "ran", "sev")
_WORDS = tuple("".join(parts) for parts in itertools.product(_BEGINNINGS, _ENDINGS))


def made_up_answer(response_format: Any, seed: int) -> str:
    """Return a JSON object that fits the JSON schema of ``response_format``.

    Strings are about ``LENGTH`` characters of made-up words drawn from ``seed``, within the
    field's bounds; numbers are their least value, constants themselves.
    """
    chance = random.Random(seed)  # noqa: S311  # words, not secrets
    schema = ((response_format or {}).get("json_schema") or {}).get("schema") or {}
    fields = schema.get("properties") or {"text": {"type": "string"}}
    return orjson.dumps({name: _value(field, chance) for name, field in fields.items()}).decode()


def _value(field: dict[str, Any], chance: random.Random) -> Any:
    if "const" in field:
        return field["const"]
    if "enum" in field:
        return chance.choice(field["enum"])
    match field.get("type"):
        case "integer" | "number":
            return field.get("minimum", 0)
        case "boolean":
            return True
        case _:
            least = max(LENGTH, field.get("minLength", 0))
            words = chance.choices(_WORDS, k=least // 5 + 1)
            return " ".join(words)[: field.get("maxLength", least + 20)].rstrip()
