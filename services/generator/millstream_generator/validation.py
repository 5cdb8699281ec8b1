"""Is an answer a usable sample? Every rule that refuses one has a name; no input raises."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from millstream_generator.duplicates import DuplicateIndex, fingerprint
from millstream_generator.recipe_rules import Rules, rules_of
from millstream_generator.refusal_words import clip, quoted, schema_words
from millstream_schemas.recipes import Cell, PinnedRecipe

ANSWER_CHARACTERS_MAX = 200_000
MESSAGE_CHARACTERS_MAX = 500

_FENCE = "```"
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffd\ufffe\uffff]")
_JSON_MARK = re.compile(r'\\.|["{}\[\]]', re.DOTALL)

_REFUSALS = re.compile(
    r"as an ai (language )?model|as a large language model|as an ai assistant"
    r"|i('m| am) (sorry|unable)[^.]{0,40}\b(can('|no)t|unable|assist|help)"
    r"|i can('t|not) (assist|help|comply) with (that|this|your)",
    re.IGNORECASE,
)
_PLACEHOLDERS = re.compile(
    r"lorem ipsum|\[(insert|your|add|name|placeholder|todo)\b|<(insert|your|placeholder)\b"
    r"|\{\{|\}\}|\bTODO:|\bxxxx+\b",
    re.IGNORECASE,
)

_SUSPECT = (
    "as an ai", "as a large", "sorry", "unable", "i can", "lorem", "todo:", "xxxx", "[", "<", "{{",
    "}}",
)  # fmt: skip
"""One of these stands in every refusal and placeholder; most samples hold none."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A usable sample: its fields in the recipe's order, those of the cell filled in."""

    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an answer is refused, in words that the model and a person can act on."""

    rule: str
    message: str


class _RefusedError(Exception):
    """Ends the reading of an answer; carries the rejection."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rejection = Rejection(rule, clip(message, MESSAGE_CHARACTERS_MAX))


def validate(
    pinned: PinnedRecipe,
    cell: Cell,
    text: str,
    finish_reason: str | None,
    seen: DuplicateIndex,
) -> Accepted | Rejection:
    """Return the sample that ``text`` holds, or why it is refused.

    An accepted text is remembered in ``seen``. Nothing waits between look-up and memory, so two
    answers that arrive together can't both pass.
    """
    rules = rules_of(pinned)
    try:
        _check_ending(finish_reason, text)
        content = _fill(rules, cell, _parse(text))
        _check_schema(rules, content)
        _check_words(rules, content)
        _check_repetition(rules, str(content[pinned.recipe.text_field]), seen)
    except _RefusedError as refused:
        return refused.rejection
    return Accepted({name: content[name] for name in rules.order if name in content})


def _check_ending(finish_reason: str | None, text: str) -> None:
    if finish_reason == "length":
        _refuse("length", "the answer was cut off at the token limit; write shorter texts")
    if finish_reason == "content_filter":
        told = f": {quoted(text)}" if text else ""
        _refuse("content_filter", f"the provider's content filter held the answer back{told}")
    if finish_reason in {"tool_calls", "function_call"} and not text:
        _refuse("empty", "the model called a tool and wrote no answer; write one JSON object")


def _parse(text: str) -> dict[str, Any]:
    """Return the JSON object in ``text``, freed of a code fence and of thoughts before it."""
    if len(text) > ANSWER_CHARACTERS_MAX:
        _refuse("too_long", f"the answer has more than {ANSWER_CHARACTERS_MAX} characters")
    body = _THOUGHT.sub("", text.lstrip("\ufeff")).strip()
    if body.startswith(_FENCE) and body.endswith(_FENCE):
        # The first line holds the fence and, often, the name of a language.
        body = body.removesuffix(_FENCE).partition("\n")[2].strip()
    if not body:
        _refuse("empty", "the answer is empty; write one JSON object")
    _check_characters(body)
    try:
        document = _DECODER.decode(body)
    except (ValueError, RecursionError) as error:
        if body[0] in "{[" and _is_open(body):
            _refuse("truncated_json", "the JSON ends in the middle; write it to its end")
        _refuse("not_json", f"the answer is not JSON ({error}); write one JSON object alone")
    if not isinstance(document, dict):
        _refuse("schema", f"the answer is a JSON {_kind(document)}; write one JSON object")
    return document


def _check_characters(text: str) -> None:
    if text.isprintable() and "\ufffd" not in text:
        return
    found = _CONTROL.search(text)
    if found is not None:
        code = f"U+{ord(found[0]):04X}"
        _refuse("control_characters", f"the answer holds the character {code}; leave it out")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        _refuse("duplicate_key", f"the field {quoted(twice)} stands twice; write it once")
    return document


def _no_constant(name: str) -> NoReturn:
    _refuse("not_json", f"{name} is not JSON; write a number")


# Line breaks inside strings are let pass: the characters themselves were checked before.
_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_object, parse_constant=_no_constant)


def _is_open(body: str) -> bool:
    """Return whether a string or a bracket of ``body`` is never closed; takes linear time."""
    depth, in_string = 0, False
    for mark in _JSON_MARK.findall(body):
        if mark == '"':
            in_string = not in_string
        elif not in_string:
            depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(mark, 0)
    return in_string or depth > 0


def _fill(rules: Rules, cell: Cell, document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with the fields that the recipe knows better than the model.

    Raises:
        _RefusedError: the answer contradicts its cell.
    """
    content = {
        name: value.strip() if isinstance(value, str) else value for name, value in document.items()
    }
    for name, own in rules.own_values(cell).items():
        given = content.get(name)
        if name not in rules.fixed and isinstance(given, str) and given:
            if given.casefold() != own.casefold():
                _refuse("cell", f"{name} is {quoted(given)} but was to be {quoted(own)}")
        elif name not in rules.fixed and given is not None and given != "":
            continue  # Of a wrong type: the schema says so.
        content[name] = own
    return content


def _check_schema(rules: Rules, content: dict[str, Any]) -> None:
    if _is_plainly_valid(rules, content):
        return
    try:
        error = next(rules.schema.iter_errors(content), None)
        words = None if error is None else schema_words(error)
    except RecursionError:
        words = "a value is nested too deeply; write plain values"
    if words is not None:
        _refuse("schema", words)


def _is_plainly_valid(rules: Rules, content: dict[str, Any]) -> bool:
    """Return whether the compiled schema takes the sample; if not, the slow one finds the words."""
    try:
        return rules.quick.is_valid(content)
    except ValueError:  # nested too deeply, or a number beyond its bounds
        return False


def _check_words(rules: Rules, content: Mapping[str, Any]) -> None:
    """Refuse what JSON escapes may hide, and words that no sample should hold."""
    texts = {
        name: value
        for name, value in content.items()
        if isinstance(value, str) and name not in rules.filled
    }
    for value in texts.values():
        _check_characters(value)
    folded = "\n".join(texts.values()).casefold()
    if any(part in folded for part in _SUSPECT):
        for name, value in texts.items():
            _check_phrases(name, value)
    is_ascii = folded.isascii()
    for part, pattern in rules.patterns:
        if is_ascii and part not in folded:
            continue
        for name, value in texts.items():
            if found := pattern.search(value):
                _refuse("pattern", f"{name} holds {quoted(found[0])}; write it without that")


def _check_phrases(name: str, value: str) -> None:
    for rule, pattern in (("refusal", _REFUSALS), ("placeholder", _PLACEHOLDERS)):
        if found := pattern.search(value):
            _refuse(rule, f"{name} holds {quoted(found[0])}; write a real sample")


def _check_repetition(rules: Rules, text: str, seen: DuplicateIndex) -> None:
    new = fingerprint(text)
    if not new.sketch:
        _refuse("empty_text", "the main text holds no word; write one")
    if any(example.similarity(new) >= seen.threshold for example in rules.examples):
        _refuse("copied_example", "the answer repeats the example; write a different one")
    match = seen.match(new)
    if match is not None and match.kind == "exact":
        _refuse("duplicate", "an earlier sample has the same text; write a different one")
    if match is not None:
        _refuse(
            "near_duplicate",
            f"an earlier sample is {match.similarity:.0%} the same; write a different one",
        )
    seen.add(new)


def _refuse(rule: str, message: str) -> NoReturn:
    raise _RefusedError(rule, message)


def _kind(value: object) -> str:
    return {list: "list", str: "text", bool: "truth value", type(None): "null"}.get(
        type(value), "number"
    )
