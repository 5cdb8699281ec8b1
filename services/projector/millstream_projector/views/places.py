"""Sets of places, a place being the number of a row: one bit each in an integer.

Python's integers intersect and count a hundred thousand places in microseconds.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress

Places = int
"""A set of places: place 0 is the lowest bit."""

_FLAGS = bytes.maketrans(b"01", b"\0\1")


def those(flags: Iterable[bool]) -> Places:
    """Return the places whose flag is set; the flags come from the last place to the first."""
    return int(bytes([48 + flag for flag in flags]) or b"0", 2)


def each(places: Places, *, downwards: bool) -> Iterator[int]:
    """Give the places one by one."""
    digits = f"{places:b}".encode().translate(_FLAGS)
    if downwards:
        return compress(range(len(digits) - 1, -1, -1), digits)
    return compress(range(len(digits)), reversed(digits))


def flags(places: Places, count: int) -> bytes:
    """Return one byte for each of ``count`` places: 1 for those that are in the set."""
    return f"{places:0{count}b}".encode().translate(_FLAGS)[::-1]


class Axis:
    """What users filter by: the value of each place, and the places of each value."""

    def __init__(self) -> None:
        """Begin without places."""
        self._values: list[str | None] = []
        self._places: dict[str | None, Places] = {}

    def extend(self, values: Sequence[str | None]) -> None:
        """Add a place for each of ``values``."""
        begin = len(self._values)
        more: dict[str | None, Places] = {}
        for number, value in enumerate(values):
            known = value if value is None else sys.intern(value)
            self._values.append(known)
            more[known] = more.get(known, 0) | 1 << number
        for value, places in more.items():
            self._places[value] = self._places.get(value, 0) | places << begin

    def put(self, place: int, value: str | None) -> None:
        """Change the value of a place."""
        before = self._values[place]
        if value == before:
            return
        self._places[before] ^= 1 << place
        self._places[value] = self._places.get(value, 0) | 1 << place
        self._values[place] = value

    def having(self, is_wanted: Callable[[str], bool]) -> Places:
        """Return the places of all values that are wanted."""
        found = 0
        for value, places in self._places.items():
            if value is not None and is_wanted(value):
                found |= places
        return found

    def counts(self, among: Places) -> list[tuple[str, int]]:
        """Return how many places have each value, the most frequent first."""
        counted = [
            (value, count)
            for value, places in self._places.items()
            if value is not None and (count := (places & among).bit_count())
        ]
        return sorted(counted, key=lambda pair: (-pair[1], pair[0]))
