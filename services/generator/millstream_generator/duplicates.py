"""Finds texts that repeat an earlier one, word for word or nearly, among the last ones.

A text is the set of its word 5-grams; two texts are near duplicates when the Jaccard similarity of
their sets is at least the threshold. Of a set its smallest hashes are kept, all of them for texts
of up to about 130 words, and of each hash 16 bits: similarity is measured on these. For long texts
it is an estimate (standard error 0.03); and each pair of unlike texts of n words seems to share one
gram more than it does in n * n / 65536 of all cases.

Look-up: order each set by the whole hash. Two sets of similarity >= t have ceil(t n) hashes in
common, n being the size of either, so at most n - ceil(t n) of its hashes are not: the two share at
least two hashes among their first n - ceil(t n) + 2. Only those few are indexed, and only texts
found under two of them are compared. The index is a table of fixed size, in which a later text may
push an earlier one out of a full row: a pair is missed only when that happened to its hashes.

Memory: about 90 bytes for a text of 25 words, and never more than 6 MB per index.
"""

import hashlib
import mmap
import re
import zlib
from array import array
from dataclasses import dataclass
from math import ceil
from typing import Literal, NamedTuple

WORDS_PER_SHINGLE = 5
SKETCH_MAX = 128
CAPACITY = 50_000
GRAMS_MOST = 600_000
"""Grams per generation: long texts are forgotten sooner than short ones."""
ROWS = 1 << 15
ROW_ENTRIES = 10
_ROW_MASK = ROWS - 1
_TABLE_BYTES = ROWS * ROW_ENTRIES * 4

_WORD = re.compile(r"\w+")
_NO_WORDS_TO_SPACE = bytes(code if _WORD.fullmatch(chr(code)) else ord(" ") for code in range(256))


class Match(NamedTuple):
    """An earlier text that the new one repeats; ``similarity`` is 1.0 for an exact duplicate."""

    kind: Literal["exact", "near"]
    similarity: float


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is known of one text: a digest, its smallest hashes in order, and 16 bits of each."""

    digest: bytes
    sketch: "array[int]"
    grams: frozenset[int]

    def similarity(self, other: "Fingerprint") -> float:
        """Return the Jaccard similarity (0..1) of the two texts, estimated for long ones."""
        return _similarity(self.grams, other.grams)


def fingerprint(text: str) -> Fingerprint:
    """Return the fingerprint of ``text``: case, white space and punctuation make no difference.

    The exact digest keeps punctuation. Hashes depend on the text alone, not on the process.
    """
    folded = text.casefold()
    exact = " ".join(folded.split()).encode("utf-8", "surrogatepass")
    sketch = _sketch(folded)
    grams = frozenset([value & 0xFFFF for value in sketch])
    return Fingerprint(hashlib.sha256(exact).digest()[:16], sketch, grams)


class DuplicateIndex:
    """The last texts of one batch on one node: at most ``capacity``, at least half of that.

    Kept as two generations; when the younger one is full, the elder is forgotten whole.
    """

    def __init__(self, capacity: int = CAPACITY, threshold: float = 0.85) -> None:
        if not 2 <= capacity <= CAPACITY or not 0 < threshold <= 1:
            raise ValueError(
                f"capacity {capacity} must be 2..{CAPACITY}, threshold {threshold} above 0 (<= 1)"
            )
        self._texts_most = capacity // 2
        self.threshold = threshold
        self._young = _Generation()
        self._elder = _Generation()

    def __len__(self) -> int:
        return len(self._young) + len(self._elder)

    def match(self, new: Fingerprint) -> Match | None:
        """Return what ``new`` repeats, None when it is new."""
        keys = self._keys(new)
        best = 0.0
        for generation in (self._young, self._elder):
            found = generation.best(new, keys, self.threshold)
            if found.kind == "exact":
                return found
            best = max(best, found.similarity)
        return Match("near", best) if best >= self.threshold else None

    def add(self, new: Fingerprint) -> None:
        """Remember ``new``."""
        young = self._young
        if len(young) >= self._texts_most or len(young.grams) >= GRAMS_MOST:
            self._elder, self._young = young, _Generation()
        self._young.add(new, self._keys(new))

    def _keys(self, text: Fingerprint) -> list[int]:
        """Return the hashes under which a text is found; the digest's own finds exact repeats."""
        size = len(text.sketch)
        common = ceil(self.threshold * size)
        return [*text.sketch[: size - common + min(2, common)], zlib.crc32(text.digest)]


class _Generation:
    """Some texts: their grams one after the other, and a table from hashes to texts.

    An entry of the table holds 16 bits of a hash and the number of a text, from 1 on.
    """

    def __init__(self) -> None:
        self.grams = array("H")
        self._digests = array("I")
        self._ends = array("I", [0])
        self._table: memoryview | None = None

    def __len__(self) -> int:
        return len(self._digests)

    def add(self, new: Fingerprint, keys: list[int]) -> None:
        self.grams.extend(new.grams)
        self._digests.append(zlib.crc32(new.digest))
        self._ends.append(len(self.grams))
        if self._table is None:
            # Mapped memory takes no room until it is written: most batches are small.
            self._table = memoryview(mmap.mmap(-1, _TABLE_BYTES)).cast("I")
        table, number = self._table, len(self._digests)
        for key in keys:
            start = (key & _ROW_MASK) * ROW_ENTRIES
            place = start + number % ROW_ENTRIES
            for free in range(start, start + ROW_ENTRIES):
                if not table[free]:
                    place = free
                    break
            table[place] = key & 0xFFFF0000 | number

    def best(self, new: Fingerprint, keys: list[int], threshold: float) -> Match:
        """Return the text that is most like ``new``; of similarity 0 when none is alike."""
        if self._table is None:
            return Match("near", 0.0)
        grams, ends = new.grams, self._ends
        size, digest, best = len(grams), keys[-1], 0.0
        for number in self._candidates(keys, self._table):
            start, end = ends[number - 1], ends[number]
            other = end - start
            if other == size and self._digests[number - 1] == digest:
                return Match("exact", 1.0)
            if size >= threshold * other and other >= threshold * size:
                best = max(best, _similarity(grams, self.grams[start:end]))
        return Match("near", best)

    @staticmethod
    def _candidates(keys: list[int], table: memoryview) -> set[int]:
        """Return the texts found under two keys, or under that of the digest, the last one."""
        once: set[int] = set()
        twice: set[int] = set()
        found = twice if len(keys) == 2 else once  # a text of one gram has no second key
        for key in keys[:-1]:
            start, tag = (key & _ROW_MASK) * ROW_ENTRIES, key >> 16
            for entry in table[start : start + ROW_ENTRIES]:
                if not entry:
                    break  # rows fill from their beginning
                if entry >> 16 == tag:
                    number = entry & 0xFFFF
                    (twice if number in once else found).add(number)
        start, tag = (keys[-1] & _ROW_MASK) * ROW_ENTRIES, keys[-1] >> 16
        twice.update(e & 0xFFFF for e in table[start : start + ROW_ENTRIES] if e and e >> 16 == tag)
        return twice


def _sketch(folded: str) -> "array[int]":
    """Return the smallest hashes of the text's word 5-grams, ascending.

    A text of fewer than five words is one gram.
    """
    words = _words(folded)
    if not words:
        return array("I")
    following = [words[start:] for start in range(min(WORDS_PER_SHINGLE, len(words)))]
    # No gram is made in the interpreter, but all in C: this is done for every answer.
    grams = map(b"".join, zip(*following, strict=False))
    return array("I", sorted(set(map(zlib.crc32, grams)))[:SKETCH_MAX])


def _words(folded: str) -> list[bytes]:
    """Return the words, each with a space behind it."""
    if folded.isascii():
        words = folded.encode("ascii").translate(_NO_WORDS_TO_SPACE).split()
    else:
        words = [word.encode("utf-8", "surrogatepass") for word in _WORD.findall(folded)]
    return [word + b" " for word in words]


def _similarity(own: frozenset[int], other: "frozenset[int] | array[int]") -> float:
    shared = len(own.intersection(other))
    union = len(own) + len(other) - shared
    return shared / union if union else 0.0
