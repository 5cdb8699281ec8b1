"""Places in the order of a key that changes, kept so that a page of them costs what it shows."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import compress

FEW = 16
"""Of one place in so many it is quicker to sort the few than to look through all."""


def moved_most(count: int) -> int:
    """Return how many of ``count`` places are moved one by one, rather than all sorted.

    At that number it takes half as long: each moves a share of all the others.
    """
    return count // (32 + count // 3000)


class Order:
    """All places sorted by their keys, those with the same key by their number.

    Keys are integers of 64 bits. What moves is put right when somebody asks, not when it moves.
    """

    def __init__(self) -> None:
        """Begin without places."""
        self.keys = array("q")
        self._sorted: array[int] = array("i")
        self._moved: dict[int, int | None] | None = {}
        """The key under which each place stands in ``_sorted`` while that is not its own; None
        when so many have moved that all are sorted. So nobody's sort is not kept up at a price."""

    def extend(self, count: int) -> None:
        """Add places with the key -1."""
        first = len(self.keys)
        self.keys.extend([-1] * count)
        if self._moved is not None:
            self._moved.update(dict.fromkeys(range(first, first + count)))
            self._forget_many()

    def put(self, place: int, key: int) -> None:
        """Change the key of a place."""
        before = self.keys[place]
        if key != before:
            self.keys[place] = key
            if self._moved is not None:
                self._moved.setdefault(place, before)
                self._forget_many()

    def places(
        self, flags: bytes, border: tuple[int, int] | None, *, downwards: bool
    ) -> Iterator[int]:
        """Give the places whose flag is set, in order.

        Upwards they begin at the ``border`` (a key and a place), downwards just before it.
        """
        found: Sequence[int]
        if flags.count(1) * FEW < len(flags):
            found = sorted(compress(range(len(flags)), flags), key=self.keys.__getitem__)
        else:
            self.settle()
            found = self._sorted
        begin, end = 0, len(found)
        if border is not None:
            cut = bisect_left(found, border, key=self._where)
            begin, end = (0, cut) if downwards else (cut, end)
        numbers = range(end - 1, begin - 1, -1) if downwards else range(begin, end)
        # A place is looked at by C alone, so that a filter that leaves few costs little.
        wanted = map(flags.__getitem__, map(found.__getitem__, numbers))
        return map(found.__getitem__, compress(numbers, wanted))

    def settle(self) -> None:
        """Put right what has moved."""
        keys, moved, found = self.keys, self._moved, self._sorted
        if moved is None:
            self._sorted = array("i", sorted(range(len(keys)), key=keys.__getitem__))
        else:
            stood = partial(self._stood, moved)
            for place, before in moved.items():
                if before is not None:
                    del found[bisect_left(found, (before, place), key=stood)]
            for place in moved:
                found.insert(bisect_left(found, self._where(place), key=self._where), place)
        self._moved = {}

    def _forget_many(self) -> None:
        if self._moved is not None and len(self._moved) > moved_most(len(self.keys)):
            self._moved = None

    def _where(self, place: int) -> tuple[int, int]:
        return self.keys[place], place

    def _stood(self, moved: dict[int, int | None], place: int) -> tuple[int, int]:
        before = moved.get(place)
        return (self.keys[place] if before is None else before), place
