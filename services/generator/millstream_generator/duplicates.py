"""Finds texts that repeat an earlier one, word for word or nearly, among the last N texts.

A text is the set of its word 5-grams; two texts are near duplicates when the Jaccard similarity of
their sets is at least the threshold. A set is kept as a MinHash sketch: its smallest hashes, all of
them for texts of up to about 130 words, whose similarity is then exact.

Look-up: order each sketch by hash. If two sketches of similarity >= t are united, fewer than
n - ceil(t n) + 1 of the n hashes before any common one can be missing in either, so the two share
a hash among their first n - ceil(t n) + 1. Only those few hashes are indexed: they are the bands of
a locality-sensitive index that misses no pair (until a list of holders of one hash is full).
"""

import hashlib
import re
import zlib
from array import array
from collections import deque
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import Literal, NamedTuple

WORDS_PER_SHINGLE = 5
SKETCH_MAX = 128
HOLDERS_MAX = 16
"""Texts kept per indexed hash: a phrase that opens thousands of texts may not slow look-ups."""

_WORD = re.compile(r"\w+")


class Match(NamedTuple):
    """An earlier text that the new one repeats; ``similarity`` is 1.0 for an exact duplicate."""

    kind: Literal["exact", "near"]
    similarity: float


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What the index keeps of one text."""

    digest: bytes
    sketch: "array[int]"

    def similarity(self, other: "Fingerprint") -> float:
        """Return the Jaccard similarity (0..1) of the two texts, estimated for long ones."""
        return _similarity(frozenset(self.sketch), other.sketch, len(self.sketch))


def fingerprint(text: str) -> Fingerprint:
    """Return the fingerprint of ``text``: case, white space and punctuation make no difference.

    The exact digest keeps punctuation. Hashes depend on the text alone, not on the process.
    """
    folded = text.casefold()
    exact = " ".join(folded.split()).encode("utf-8", "surrogatepass")
    return Fingerprint(hashlib.sha256(exact).digest()[:16], _sketch(folded))


class DuplicateIndex:
    """The last ``capacity`` texts of one batch on one node; the oldest is forgotten first."""

    def __init__(self, capacity: int = 100_000, threshold: float = 0.85) -> None:
        if capacity < 1 or not 0 < threshold <= 1:
            raise ValueError(
                f"capacity {capacity} and threshold {threshold} must be above 0 (<= 1)"
            )
        self._capacity = capacity
        self.threshold = threshold
        self._texts: dict[int, Fingerprint] = {}
        self._order: deque[int] = deque()
        self._next = 0
        self._digests: dict[bytes, int] = {}
        self._holders: dict[int, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def match(self, new: Fingerprint) -> Match | None:
        """Return what ``new`` repeats, None when it is new."""
        if new.digest in self._digests:
            return Match("exact", 1.0)
        own = frozenset(new.sketch)
        size = len(own)
        candidates = {
            number for value in self._indexed(new) for number in self._holders.get(value, ())
        }
        best = 0.0
        for number in candidates:
            other = self._texts[number].sketch
            if min(size, len(other)) >= self.threshold * max(size, len(other)):
                best = max(best, _similarity(own, other, size))
        return Match("near", best) if best >= self.threshold else None

    def add(self, new: Fingerprint) -> None:
        """Remember ``new``; a digest that is known already changes nothing."""
        if new.digest in self._digests:
            return
        if len(self._texts) >= self._capacity:
            self._forget(self._order.popleft())
        number = self._next
        self._next += 1
        self._texts[number] = new
        self._order.append(number)
        self._digests[new.digest] = number
        for value in self._indexed(new):
            self._holders[value] = (*self._holders.get(value, ())[-HOLDERS_MAX + 1 :], number)

    def _indexed(self, text: Fingerprint) -> "array[int]":
        size = len(text.sketch)
        return text.sketch[: size - ceil(self.threshold * size) + 1]

    def _forget(self, number: int) -> None:
        old = self._texts.pop(number)
        del self._digests[old.digest]
        for value in self._indexed(old):
            left = tuple(other for other in self._holders.get(value, ()) if other != number)
            if left:
                self._holders[value] = left
            else:
                self._holders.pop(value, None)


def _sketch(folded: str) -> "array[int]":
    """Return the smallest hashes of the text's word 5-grams, ascending.

    A text of fewer than five words is one gram.
    """
    words = " ".join(_WORD.findall(folded)).encode("utf-8", "surrogatepass")
    if not words:
        return array("I")
    lengths = [len(word) + 1 for word in words.split(b" ")]
    ends = list(accumulate(lengths))
    starts = [0, *ends[:-1]]
    view = memoryview(words + b" ")
    crc32 = zlib.crc32
    grams = zip(starts, ends[min(WORDS_PER_SHINGLE, len(ends)) - 1 :], strict=False)
    return array("I", sorted({crc32(view[start:end]) for start, end in grams})[:SKETCH_MAX])


def _similarity(own: frozenset[int], other: "array[int]", size: int) -> float:
    shared = own.intersection(other)
    if size < SKETCH_MAX or len(other) < SKETCH_MAX:
        union = size + len(other) - len(shared)
        return len(shared) / union if union else 0.0
    # Both sketches are cut: of the smallest hashes of the union, how many do both hold?
    smallest = sorted(own.union(other))[:SKETCH_MAX]
    return sum(value in shared for value in smallest) / SKETCH_MAX
