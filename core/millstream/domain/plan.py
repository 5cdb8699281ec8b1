"""Which slot gets which topic, difficulty and sample type: seeded quotas, the same on every node.

Each cell gets the floor or the ceiling of its weighted share of the target. Which cells get the
ceiling is decided axis by axis (sample type, then difficulty, then topic), always in favour of what
is furthest behind its share, so that a batch smaller than the number of cells is spread over every
axis too. All sums are of integers: no node rounds differently. Slots are then dealt to the cells by
a keyed permutation of 0..target-1, so that any part of a batch looks like the whole.

A child batch shares nothing out: its spec says how many slots each cell gets, namely as many as its
parent left open there.
"""

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from math import lcm
from typing import TypeVar

from millstream.errors import UsageError
from millstream.wording import one_of
from millstream_schemas.control import BatchSpec, CellQuota
from millstream_schemas.recipes import Cell, Difficulty, Recipe, SampleType, Topic

BALANCED = frozenset({"", "balance", "balanced"})
"""Words for "spread over all", as null does."""

_Item = TypeVar("_Item")

_ROUNDS = 6
_MASK = (1 << 64) - 1


class ChoiceError(UsageError, ValueError):
    """A topic, difficulty or sample type that the recipe doesn't have."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What a batch may use of each axis, in the recipe's order; none is empty."""

    topics: tuple[Topic, ...]
    difficulties: tuple[Difficulty, ...]
    sample_types: tuple[SampleType, ...]


def check_choices(
    recipe: Recipe, topic: str | None, difficulty: str | None, sample_type: str | None
) -> Choices:
    """Return what is left of each axis; None, ``balance`` or ``balanced`` leaves it whole.

    A topic is named by its label (``"<area> - <topic>"``), by its own name, or by an area, which
    stands for all of its topics. Upper and lower case don't matter.

    Raises:
        ChoiceError: the recipe has no such entry; names field, value and what may be chosen.
    """
    levels, kinds = recipe.difficulties, recipe.sample_types
    return Choices(
        topics=_chosen_topics(recipe, topic),
        difficulties=_chosen("difficulty", difficulty, levels, lambda item: (item.id,)),
        sample_types=_chosen("sample_type", sample_type, kinds, lambda item: (item.id, item.name)),
    )


def attempt_seed(spec: BatchSpec, slot: int, attempt: int) -> int:
    """Return the seed of one call, 0 <= seed < 2**31: some providers take signed 32 bits."""
    key = f"{spec.recipe.content_hash}:{spec.seed}:{slot}:{attempt}"
    return _number(key) >> 33


class Plan:
    """The cells of a batch's slots: a pure function of its spec.

    Cells are numbered from 0 in the order of ``quotas``, which recipe and choices alone decide:
    a child of the same choices numbers them as its parent does.
    """

    def __init__(self, spec: BatchSpec) -> None:
        """Share the target out; takes time in the number of cells, not of slots.

        Raises:
            ChoiceError: the spec names an entry that its recipe doesn't have, or quotas that
                don't fit its cells and its target.
        """
        recipe = spec.recipe.recipe
        choices = check_choices(recipe, spec.topic, spec.difficulty, spec.sample_type)
        key = f"{spec.recipe.content_hash}:{spec.seed}:{spec.target}"
        self._target = spec.target
        self._keys = tuple(_number(f"{key}:round:{index}") for index in range(_ROUNDS))
        self._cells = _cells(choices)
        self._counts = (
            tuple(_share_out(spec.target, choices, key))
            if spec.quotas is None
            else _given(spec.quotas, len(self._cells), spec.target)
        )
        self._ends = tuple(accumulate(self._counts))

    def cell(self, slot: int) -> Cell:
        """Return the cell of ``slot``.

        Raises:
            IndexError: the batch has no such slot.
        """
        return self._cells[self._index(slot)]

    def _index(self, slot: int) -> int:
        if not 0 <= slot < self._target:
            raise IndexError(f"slot {slot} is outside 0..{self._target - 1}")
        return bisect_right(self._ends, _permute(slot, self._target, self._keys))

    def quotas_of(self, slots: Iterable[int]) -> tuple[CellQuota, ...]:
        """Return how many of ``slots`` each cell has; cells without any are left out."""
        counts = Counter(map(self._index, slots))
        return tuple(CellQuota(cell=cell, count=count) for cell, count in sorted(counts.items()))

    def quotas_without(self, slots: Iterable[int]) -> tuple[CellQuota, ...]:
        """Return how many slots each cell has besides ``slots``; quicker when these are few."""
        counts = list(self._counts)
        for slot in slots:
            counts[self._index(slot)] -= 1
        return tuple(CellQuota(cell=cell, count=left) for cell, left in enumerate(counts) if left)

    def quotas(self) -> tuple[tuple[Cell, int], ...]:
        """Return how many slots each cell gets; the numbers add up to the target."""
        return tuple(zip(self._cells, self._counts, strict=True))


@dataclass(slots=True)
class _Debt:
    """How far each value of one axis is behind its share, in units of 1/total slots."""

    amounts: list[int]

    def settle(self, shares: Sequence[int], counts: Sequence[int], total: int) -> None:
        for index, (share, count) in enumerate(zip(shares, counts, strict=True)):
            self.amounts[index] += share - count * total


def _cells(choices: Choices) -> tuple[Cell, ...]:
    """Return every cell: sample types slowest, topics fastest."""
    return tuple(
        Cell(area=topic.area, topic=topic.topic, difficulty=level.id, sample_type=kind.id)
        for kind in choices.sample_types
        for level in choices.difficulties
        for topic in choices.topics
    )


def _given(quotas: Iterable[CellQuota], cells: int, target: int) -> tuple[int, ...]:
    """Return the number of slots of each cell as a child batch was given them."""
    counts = [0] * cells
    for quota in quotas:
        if quota.cell >= cells:
            raise ChoiceError(
                f"quotas name cell {quota.cell}, but the recipe and the choices make {cells} cells",
                field="quotas",
                value=quota.cell,
            )
        counts[quota.cell] += quota.count
    if sum(counts) != target:
        raise ChoiceError(
            f"quotas add up to {sum(counts)} slots, not to the target of {target}",
            field="quotas",
            value=sum(counts),
        )
    return tuple(counts)


def _share_out(target: int, choices: Choices, key: str) -> list[int]:
    """Return every cell's number of slots, each within one of its share, in the cells' order."""
    topics = _whole(item.weight for item in choices.topics)
    levels = _whole(item.weight for item in choices.difficulties)
    kinds = _whole(item.weight for item in choices.sample_types)
    total = sum(topics) * sum(levels) * sum(kinds)
    topic_debt = _Debt([0] * len(topics))
    level_debt = _Debt([0] * len(levels))
    kind_debt = _Debt([0] * len(kinds))
    counts: list[int] = []
    kind_shares = [target * weight * sum(levels) * sum(topics) for weight in kinds]
    per_kind = _round(target, kind_shares, total, kind_debt, f"{key}:kinds")
    for kind, kind_weight, kind_count in zip(choices.sample_types, kinds, per_kind, strict=True):
        base = target * kind_weight
        level_shares = [base * weight * sum(topics) for weight in levels]
        name = f"{key}:{kind.id}"
        per_level = _round(kind_count, level_shares, total, level_debt, name)
        for level, weight, count in zip(choices.difficulties, levels, per_level, strict=True):
            topic_shares = [base * weight * topic_weight for topic_weight in topics]
            counts += _round(count, topic_shares, total, topic_debt, f"{name}:{level.id}")
    return counts


def _round(count: int, shares: Sequence[int], total: int, debt: _Debt, key: str) -> list[int]:
    """Return whole numbers that add up to ``count``, each the floor or ceiling of its share.

    ``shares`` are in units of 1/``total``; ``count`` is the floor or ceiling of their sum. What the
    floors leave over goes to the values that are furthest behind on their axis, ties by the key.
    """
    counts = [share // total for share in shares]
    missing = count - sum(counts)
    open_places = [index for index, share in enumerate(shares) if share % total]

    def urgency(index: int) -> tuple[int, int]:
        behind = debt.amounts[index] + shares[index] - counts[index] * total
        return -behind, _number(f"{key}:{index}")

    for index in sorted(open_places, key=urgency)[:missing]:
        counts[index] += 1
    debt.settle(shares, counts, total)
    return counts


def _whole(weights: Iterable[float]) -> list[int]:
    """Return integers in the same proportions: 0.1 counts as one tenth, not as its binary value."""
    exact = [Fraction(repr(weight)) for weight in weights]
    scale = lcm(*(weight.denominator for weight in exact))
    return [int(weight * scale) for weight in exact]


def _permute(value: int, size: int, keys: Sequence[int]) -> int:
    """Return where ``value`` goes in a permutation of 0..size-1 (Feistel, cycle walking).

    The network permutes the next even power of two; a result outside the range is fed in again,
    which takes fewer than four passes on average.
    """
    half = max(1, -(-(size - 1).bit_length() // 2))
    mask = (1 << half) - 1
    while True:
        left, right = value >> half, value & mask
        for key in keys:
            mixed = ((right ^ key) * 0x9E3779B97F4A7C15) & _MASK
            mixed = ((mixed ^ mixed >> 29) * 0xBF58476D1CE4E5B9) & _MASK
            left, right = right, left ^ (mixed >> 32 & mask)
        value = left << half | right
        if value < size:
            return value


def _number(key: str) -> int:
    """Return 64 bits that depend on the text alone: the same on every node and version."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8])


def _chosen_topics(recipe: Recipe, value: str | None) -> tuple[Topic, ...]:
    if value is None or value.strip().casefold() in BALANCED:
        return recipe.topics
    wanted = value.strip().casefold()
    by_name: tuple[Callable[[Topic], str], ...] = (
        lambda topic: topic.label,
        lambda topic: topic.topic,
        lambda topic: topic.area,
    )
    for name in by_name:
        found = tuple(topic for topic in recipe.topics if name(topic).casefold() == wanted)
        if found:
            return found
    raise _unknown("topic", value, [topic.label for topic in recipe.topics])


def _chosen(
    field: str,
    value: str | None,
    items: tuple[_Item, ...],
    names: Callable[[_Item], tuple[str, ...]],
) -> tuple[_Item, ...]:
    if value is None or value.strip().casefold() in BALANCED:
        return items
    wanted = value.strip().casefold()
    found = tuple(item for item in items if wanted in {name.casefold() for name in names(item)})
    if found:
        return found
    raise _unknown(field, value, [names(item)[0] for item in items])


def _unknown(field: str, value: str, allowed: Sequence[str]) -> ChoiceError:
    shown = value if len(value) <= 120 else f"{value[:117]}..."
    return ChoiceError(
        f"{field} {shown!r} is not one of the recipe's; {one_of(value, allowed)}",
        field=field,
        value=value,
    )
