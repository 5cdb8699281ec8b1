"""The plan: exact shares, a true permutation, the same on every node."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.domain.plan import ChoiceError, Plan, attempt_seed, check_choices
from millstream_schemas.control import BatchSpec
from millstream_schemas.recipes import (
    Cell,
    Difficulty,
    PinnedRecipe,
    Recipe,
    SampleType,
    Topic,
)
from millstream_schemas.routes import Route

Weights = Sequence[float]

WEIGHTS = st.lists(st.sampled_from([0.1, 0.5, 1.0, 1.5, 2.0, 7.0]), min_size=1, max_size=5)


def recipe_of(topics: Weights, levels: Weights, kinds: Weights) -> Recipe:
    return Recipe(
        name="grid",
        title="Grid",
        prompt="{{ topic }}",
        output={"type": "object"},
        text_field="text",
        topics=tuple(
            Topic(area=f"Area {index % 2}", topic=f"t{index}", weight=weight)
            for index, weight in enumerate(topics)
        ),
        difficulties=tuple(Difficulty(id=f"d{i}", weight=w) for i, w in enumerate(levels)),
        sample_types=tuple(
            SampleType(id=f"s{i}", name=f"Kind {i}", weight=w) for i, w in enumerate(kinds)
        ),
    )


def spec_of(
    recipe: Recipe, target: int, *, seed: int = 1, digit: str = "0", topic: str | None = None
) -> BatchSpec:
    return BatchSpec(
        recipe=PinnedRecipe(content_hash="sha256:" + digit * 64, recipe=recipe),
        model="simulated/fast",
        routes=(Route(model="simulated/fast", provider="simulated", litellm_model="openai/x"),),
        target=target,
        slice_size=1,
        seed=seed,
        concurrency=1,
        topic=topic,
    )


def counted(plan: Plan, target: int) -> Counter[Cell]:
    return Counter(plan.cell(slot) for slot in range(target))


def exact(weights: Weights) -> list[Fraction]:
    parts = [Fraction(repr(weight)) for weight in weights]
    return [part / sum(parts) for part in parts]


@settings(max_examples=150, deadline=None)
@given(WEIGHTS, WEIGHTS, WEIGHTS, st.integers(1, 400), st.integers(0, 2**63 - 1))
def test_every_cell_gets_the_floor_or_the_ceiling_of_its_share(
    topics: Weights, levels: Weights, kinds: Weights, target: int, seed: int
) -> None:
    recipe = recipe_of(topics, levels, kinds)
    plan = Plan(spec_of(recipe, target, seed=seed))
    counts = counted(plan, target)
    assert sum(counts.values()) == target
    assert {cell: count for cell, count in plan.quotas() if count} == dict(counts)
    per_kind: Counter[str] = Counter()
    axes = product(enumerate(exact(topics)), enumerate(exact(levels)), enumerate(exact(kinds)))
    for (topic, of_topic), (level, of_level), (kind, of_kind) in axes:
        cell = Cell(
            area=f"Area {topic % 2}",
            topic=f"t{topic}",
            difficulty=f"d{level}",
            sample_type=f"s{kind}",
        )
        assert abs(counts[cell] - target * of_topic * of_level * of_kind) < 1
        per_kind[f"s{kind}"] += counts[cell]
    for kind, share in enumerate(exact(kinds)):
        assert abs(per_kind[f"s{kind}"] - target * share) < 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 120), st.integers(0, 1000))
def test_a_batch_smaller_than_its_cells_is_spread_over_every_axis(target: int, seed: int) -> None:
    counts = counted(
        Plan(spec_of(recipe_of([1] * 24, [1] * 5, [1] * 4), target, seed=seed)), target
    )
    for axis, size in (("topic", 24), ("difficulty", 5), ("sample_type", 4)):
        met: Counter[str] = Counter()
        for cell, count in counts.items():
            met[getattr(cell, axis)] += count
        assert max(met.values()) - Fraction(target, size) < 2
        assert len(met) >= min(target, size) - 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**63 - 1))
def test_slots_are_dealt_by_a_permutation(target: int, seed: int) -> None:
    """With as many cells as slots of weight one, every cell is met exactly once."""
    recipe = recipe_of([1] * target, [1], [1])
    counts = counted(Plan(spec_of(recipe, target, seed=seed)), target)
    assert set(counts.values()) == {1}
    assert len(counts) == target


def test_a_plan_depends_on_seed_recipe_hash_and_target_alone() -> None:
    recipe = recipe_of([1, 2], [1, 1], [1, 3])

    def cells(spec: BatchSpec) -> list[Cell]:
        plan = Plan(spec)
        return [plan.cell(slot) for slot in range(60)]

    base = cells(spec_of(recipe, 60))
    assert cells(spec_of(recipe, 60)) == base
    assert cells(spec_of(recipe, 60, seed=2)) != base
    assert cells(spec_of(recipe, 60, digit="1")) != base
    assert cells(spec_of(recipe, 61)) != base


def test_a_plan_is_the_same_in_every_release() -> None:
    """A running batch must not change its cells by an upgrade: never edit these values."""
    plan = Plan(spec_of(recipe_of([1, 2], [1], [1, 1]), 12, seed=7))
    dealt = [f"{plan.cell(slot).topic}{plan.cell(slot).sample_type}" for slot in range(12)]
    assert dealt == GOLDEN
    assert attempt_seed(spec_of(recipe_of([1], [1], [1]), 1), 0, 1) == GOLDEN_SEED


GOLDEN = [
    *("t1s0", "t1s0", "t0s0", "t1s1", "t0s1", "t1s0"),
    *("t1s1", "t1s0", "t1s1", "t0s1", "t0s0", "t1s1"),
]
GOLDEN_SEED = 1_468_777_462


def test_a_plan_of_a_million_slots_is_not_a_list_of_them() -> None:
    plan = Plan(spec_of(recipe_of([1] * 24, [1] * 5, [1] * 4), 1_000_000))
    assert len(plan.quotas()) == 480
    assert {count for _, count in plan.quotas()} == {2083, 2084}
    assert plan.cell(999_999) == plan.cell(999_999)


@pytest.mark.parametrize("slot", [-1, 10])
def test_a_slot_outside_the_batch_is_refused(slot: int) -> None:
    with pytest.raises(IndexError, match=r"outside 0\.\.9"):
        Plan(spec_of(recipe_of([1], [1], [1]), 10)).cell(slot)


def test_attempt_seeds_are_stable_and_fit_signed_32_bits() -> None:
    spec = spec_of(recipe_of([1], [1], [1]), 100)
    seeds = {attempt_seed(spec, slot, attempt) for slot in range(100) for attempt in (1, 2)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert attempt_seed(spec, 5, 1) == attempt_seed(spec, 5, 1)


def test_a_choice_fixes_its_axis() -> None:
    recipe = recipe_of([1] * 4, [1] * 2, [1] * 2)
    labels = {topic.label for topic in check_choices(recipe, "area 1 - T3", None, "").topics}
    assert labels == {"Area 1 - t3"}
    assert [topic.topic for topic in check_choices(recipe, "t2", None, None).topics] == ["t2"]
    assert [topic.topic for topic in check_choices(recipe, "Area 1", None, None).topics] == [
        "t1",
        "t3",
    ]
    assert [item.id for item in check_choices(recipe, None, "D1", None).difficulties] == ["d1"]
    assert [item.id for item in check_choices(recipe, None, None, "kind 0").sample_types] == ["s0"]
    for word in (None, "", "balance", "Balanced"):
        choices = check_choices(recipe, word, word, word)
        assert (len(choices.topics), len(choices.difficulties), len(choices.sample_types)) == (
            4,
            2,
            2,
        )
    plan = Plan(spec_of(recipe, 8, topic="Area 1 - t3"))
    assert {plan.cell(slot).topic for slot in range(8)} == {"t3"}


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("topic", "Area 1 - t33", r"topic 'Area 1 - t33' .*use one of: Area 0 - t0.*did you mean"),
        ("difficulty", "d01", r"difficulty 'd01' .*use one of: d0, d1; did you mean 'd"),
        ("sample_type", "poem", r"sample_type 'poem' .*use one of: s0, s1$"),
        ("topic", "x" * 5000, r"topic 'xxx"),
    ],
)
def test_an_unknown_choice_names_field_value_and_what_there_is(
    field: str, value: str, words: str
) -> None:
    recipe = recipe_of([1] * 4, [1] * 2, [1] * 2)
    given_value = {"topic": None, "difficulty": None, "sample_type": None, field: value}
    with pytest.raises(ChoiceError, match=words) as refused:
        check_choices(recipe, **given_value)
    assert (refused.value.field, refused.value.value) == (field, value)
    assert isinstance(refused.value, ValueError)
    assert len(str(refused.value)) < 2000
