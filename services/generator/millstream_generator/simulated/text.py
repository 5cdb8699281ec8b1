"""Readable English drawn by a seed: sentences, questions and phrases about given topics."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from millstream_generator.simulated.words import (
    PHRASES,
    POOLS,
    QUESTIONS,
    SENTENCES,
    SURNAMES,
)

Part = str | tuple[str, ...] | None
"""A piece of a sentence: fixed text, a pool to draw from, or None for a topic."""


@dataclass(frozen=True, slots=True)
class Draw:
    """The source of chance and the topics of one answer; `unit` gives numbers in [0, 1)."""

    unit: Callable[[], float]
    topics: Sequence[str]

    def between(self, low: int, high: int) -> int:
        """Return a whole number in [low, high]."""
        return low + int(self.unit() * (high - low + 1))


_SLOT = re.compile(r"\{(\w+)\}")


def _parts(templates: Sequence[str]) -> tuple[tuple[Part, ...], ...]:
    """Split templates into their parts, once at import."""
    return tuple(
        tuple(
            piece if index % 2 == 0 else POOLS.get(piece)
            for index, piece in enumerate(_SLOT.split(template))
        )
        for template in templates
    )


_SENTENCES = _parts(SENTENCES)
_QUESTIONS = _parts(QUESTIONS)
_PHRASES = _parts(PHRASES)
_ANY_TOPIC = ("the rule at hand",)


def _fill(parts: tuple[Part, ...], draw: Draw) -> str:
    unit = draw.unit
    topics = draw.topics or _ANY_TOPIC
    pieces: list[str] = []
    for part in parts:
        if isinstance(part, str):
            pieces.append(part)
        else:
            pool = topics if part is None else part
            pieces.append(pool[int(unit() * len(pool))])
    text = "".join(pieces)
    return text[0].upper() + text[1:]


def _one_of(templates: tuple[tuple[Part, ...], ...], draw: Draw) -> str:
    return _fill(templates[int(draw.unit() * len(templates))], draw)


def prose(draw: Draw, length: int) -> str:
    """Return whole sentences of at least `length` characters together, and at least one."""
    text = _one_of(_SENTENCES, draw)
    while len(text) < length:
        text = f"{text} {_one_of(_SENTENCES, draw)}"
    return text


def question(draw: Draw, length: int) -> str:
    """Return a question; one with room for 200 characters or more is led in by a scene."""
    scene = prose(draw, length - 100) + " " if length >= 200 else ""
    return scene + _one_of(_QUESTIONS, draw)


def phrase(draw: Draw, length: int) -> str:  # noqa: ARG001 - the same form as its siblings.
    """Return a few words that aren't a sentence."""
    return _one_of(_PHRASES, draw)


def citation(draw: Draw, length: int) -> str:  # noqa: ARG001 - the same form as its siblings.
    """Return a case citation in a reporter that doesn't exist, so that nobody takes it for real."""
    first, second = (SURNAMES[draw.between(0, len(SURNAMES) - 1)] for _ in range(2))
    volume, page, year = draw.between(1, 899), draw.between(1, 1500), draw.between(1900, 2020)
    return f"{first} v. {second}, {volume} Sim. {page} ({year})"


def writer_for(field: str, max_length: int | None) -> Callable[[Draw, int], str]:
    """Return what writes the text of a field, judged by its name and its room."""
    name = field.lower()
    if "citation" in name:
        return citation
    if any(word in name for word in ("question", "prompt", "instruction", "query")):
        return question
    if max_length is not None and max_length <= 60:
        return phrase
    return prose


def fit(text: str, min_length: int, max_length: int | None) -> str:
    """Return `text` cut at a word so that its length lies within the bounds.

    A cut sentence keeps its closing mark. Too short a text is padded with full stops.
    """
    if max_length is not None and len(text) > max_length:
        mark = text[-1] if text[-1] in ".?" else ""
        room = max_length - len(mark)
        kept = text[: max(room, 0)]
        at_word = kept.rsplit(" ", 1)[0].rstrip(" ,.;:?") if text[room : room + 1] != " " else kept
        text = (at_word + mark)[:max_length]
    return text if len(text) >= min_length else text + "." * (min_length - len(text))


_TOPIC_LINE = re.compile(
    r"(?im)^[^\w\n]*(?:topic|concept|subject)[^\w\n]*[:=][ \t]*"
    r"(\S.{2,80}?)(?:[ \t]*\([^()\n]*\))?[ \t.;]*$"
)
_LONG_WORD = re.compile(r"[A-Za-z]{7,}")
_NOT_A_TOPIC = frozenset(
    (
        *("training", "example", "examples", "question", "questions", "answer", "answers"),
        *("reasoning", "difficulty", "following", "generate", "between", "characters", "include"),
        *("including", "another", "without", "writing", "realistic", "because", "exactly"),
        *("sentence", "sentences", "context", "respond", "response", "provide", "schema"),
    )
)


@lru_cache(maxsize=1024)
def topics_of(prompt: str) -> tuple[str, ...]:
    """Return the topics a prompt names.

    The last line such as ``Topic: X (area)`` wins, since examples stand before the request; without
    one the longest words of the prompt stand in, at most three.
    """
    lines = _TOPIC_LINE.findall(prompt)
    if lines:
        return (lines[-1].strip("\"'*` "),)
    words = dict.fromkeys(word.lower() for word in _LONG_WORD.findall(prompt[-4000:]))
    candidates = [word for word in words if word not in _NOT_A_TOPIC]
    return tuple(sorted(candidates, key=len, reverse=True)[:3])
