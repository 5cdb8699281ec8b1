"""The index of texts: what repeats an earlier one, and what it costs to know."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from millstream_generator.duplicates import _TABLE_BYTES, DuplicateIndex, fingerprint

WORDS = (
    "the court held that a neighbour who keeps a dangerous dog near an open gate must pay for the"
    " wounds of a child who walked past on the way to school because the harm was easy to foresee"
    " and a simple lock would have been enough to prevent it from ever taking place at all"
)

VOCABULARY = ["ab", "cd", "ef", "gh", "ij", "kl", "mn", "op"]


def test_a_near_duplicate_is_one_of_similarity_085_and_up() -> None:
    seen = DuplicateIndex()
    seen.add(fingerprint(WORDS))
    words = WORDS.split()
    for changed in range(1, 6):
        # Each changed word, five apart, takes its own five 5-grams along.
        for place in range(changed):
            words[3 + 5 * place] = f"other{place}"
        new = fingerprint(" ".join(words))
        similarity = new.similarity(fingerprint(WORDS))
        match = seen.match(new)
        assert (match is not None) == (similarity >= 0.85)
        assert match is None or (match.kind, match.similarity) == ("near", similarity)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(VOCABULARY), max_size=40).map(" ".join),
        max_size=15,
    )
)
def test_the_index_finds_just_what_a_comparison_with_all_texts_finds(texts: list[str]) -> None:
    seen = DuplicateIndex()
    kept: list[str] = []
    for text in texts:
        new = fingerprint(text)
        repeats = any(
            fingerprint(old).digest == new.digest or new.similarity(fingerprint(old)) >= 0.85
            for old in kept
        )
        assert (seen.match(new) is not None) == repeats
        if not repeats:
            seen.add(new)
            kept.append(text)


def test_the_index_forgets_the_oldest_and_keeps_its_bound() -> None:
    seen = DuplicateIndex(capacity=4)
    texts = [f"{number} {WORDS}" * (number + 1) for number in range(10)]
    for text in texts:
        seen.add(fingerprint(text))
        assert len(seen) <= 4
    assert [seen.match(fingerprint(text)) is not None for text in texts[-2:]] == [True] * 2
    small = DuplicateIndex(capacity=2)
    for text in ("one two three four five six", "seven eight nine ten eleven", "a b c d e f"):
        small.add(fingerprint(text))
    assert small.match(fingerprint("one two three four five six")) is None


def test_the_index_of_many_texts_is_small_and_misses_next_to_nothing() -> None:
    chance = random.Random(7)
    words = [f"{first}{second}" for first in "abcdefghij" for second in "klmnopqrstuvwxyz"]
    texts = [" ".join(chance.choices(words, k=25)) for _ in range(24_000)]
    seen = DuplicateIndex()
    mistaken = 0
    for text in texts:
        new = fingerprint(text)
        mistaken += seen.match(new) is not None
        seen.add(new)
    assert mistaken == 0
    tried = chance.sample(texts, 2000)
    exact = [seen.match(fingerprint(f"  {text.upper()} ")) for text in tried]
    # One word at the end: 20 of 22 grams are shared.
    near = [seen.match(fingerprint(f"{text} more")) for text in tried]
    assert sum(match == ("exact", 1.0) for match in exact) == len(tried)
    assert sum(match is not None for match in near) >= 0.999 * len(tried)
    young = seen._young
    in_arrays = sum(
        kept.itemsize * len(kept) for kept in (young.grams, young._digests, young._ends)
    )
    assert in_arrays / len(texts) < 60
    assert _TABLE_BYTES / len(texts) < 60


def test_long_texts_are_compared_by_their_sketches() -> None:
    base = [f"word{number}" for number in range(2000)]
    near = base.copy()
    near[1000] = "changed"
    seen = DuplicateIndex()
    seen.add(fingerprint(" ".join(base)))
    assert seen.match(fingerprint(" ".join(near))) is not None
    assert seen.match(fingerprint(" ".join(base[:1200]))) is None


def test_fingerprints_are_the_same_in_every_process() -> None:
    """Two nodes must agree: never edit these values."""
    print_ = fingerprint("The quick brown fox jumps over the lazy dog")
    assert list(print_.sketch) == SKETCH
    assert print_.digest.hex() == DIGEST


SKETCH = [328056710, 504815743, 1113615516, 2623655542, 3857319700]
DIGEST = "05c6e08f1d9fdafa03147fcb8f82f124"
