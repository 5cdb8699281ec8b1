"""Rows as Arrow columns, which DuckDB takes as they are: no text to write and none to parse.

A value that a column can't hold is stored as null, a lone surrogate as a question mark.
"""

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import accumulate
from typing import Any, Protocol

import nanoarrow

Values = Sequence[Any]
Buffers = tuple[bytes | None, *tuple[Any, ...]]
"""What Arrow holds of a column; the first tells which values are there, None: all of them."""


@dataclass(frozen=True, slots=True)
class ArrowRows:
    """Rows of one table as Arrow holds them; they may go to another process.

    ``kinds`` is each column's DuckDB type, ``buffers`` what Arrow holds of each.
    """

    kinds: Mapping[str, str]
    length: int
    buffers: Sequence[Buffers]

    def __len__(self) -> int:
        """How many rows there are."""
        return self.length

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how to make them again: with bytes in the arrays' place, which cost less to copy."""
        plain = [
            tuple(part.tobytes() if isinstance(part, array) else part for part in parts)
            for parts in self.buffers
        ]
        return ArrowRows, (self.kinds, self.length, plain)

    def array(self) -> nanoarrow.Array:
        """Return them as one array."""
        schema = arrow_schema(self.kinds)
        children = []
        for kind, parts in zip(schema.children, self.buffers, strict=True):
            missing = 0 if parts[0] is None else -1  # -1: count them
            children.append(
                nanoarrow.c_array_from_buffers(kind, self.length, parts, null_count=missing)
            )
        return nanoarrow.Array(
            nanoarrow.c_array_from_buffers(schema, self.length, [None], children=children)
        )


class Rows:
    """Rows of one table, growing piece by piece; what a piece was made of may be let go."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        """Begin without rows; ``kinds`` is each column's DuckDB type, in the table's order."""
        self._kinds = kinds
        self._columns = {name: _MAKERS[_plain(kind)][1]() for name, kind in kinds.items()}
        self._length = 0

    def __len__(self) -> int:
        """How many rows there are."""
        return self._length

    def extend(self, columns: Mapping[str, Values]) -> None:
        """Add as many values to each column; times are microseconds since 1970 (UTC)."""
        for name, column in self._columns.items():
            column.extend(columns[name])
        self._length += len(next(iter(columns.values())))

    def arrow(self) -> ArrowRows:
        """Return all rows; nothing may be added afterwards."""
        buffers = [column.buffers() for column in self._columns.values()]
        return ArrowRows(self._kinds, self._length, buffers)


def arrow_schema(kinds: Mapping[str, str]) -> Any:
    """Return the Arrow schema of a table whose columns have these DuckDB types."""
    return _schema(tuple(kinds.items()))


@cache
def _schema(kinds: tuple[tuple[str, str], ...]) -> Any:
    types = {name: _MAKERS[_plain(kind)][0] for name, kind in kinds}
    return nanoarrow.c_schema(nanoarrow.struct(types, nullable=False))


def _plain(kind: str) -> str:
    return kind.removesuffix(" NOT NULL")


class _Column(Protocol):
    def extend(self, values: Values) -> None: ...

    def buffers(self) -> Buffers: ...


class _Presence:
    """Which values of a column are there: one digit each."""

    def __init__(self) -> None:
        self._digits = bytearray()
        self._is_whole = True

    def add(self, values: Values) -> None:
        """Note values of which some may be missing."""
        self._is_whole = False
        self._digits += bytes([49 - (value is None) for value in values])

    def add_all(self, count: int) -> None:
        """Note that none of ``count`` values is missing."""
        self._digits += b"1" * count

    def add_none(self, count: int) -> None:
        """Note that ``count`` values are missing."""
        self._is_whole = False
        self._digits += b"0" * count

    def bitmap(self) -> bytes | None:
        """Return one bit per value, the first one lowest; None when no value is missing."""
        return None if self._is_whole else _bitmap(self._digits)


class _Texts:
    def __init__(self) -> None:
        self._presence = _Presence()
        self._ends = array("i", [0])
        self._text = bytearray()

    def extend(self, values: Values) -> None:
        if _is_one(values):
            self._repeat(values[0], len(values))
            return
        try:
            joined = "".join(values)
        except TypeError:  # some are missing
            self._presence.add(values)
            values = [value or "" for value in values]
            joined = "".join(values)
        else:
            self._presence.add_all(len(values))
        if joined.isascii():
            lengths = map(len, values)
            encoded = joined.encode()
        else:
            parts = [value.encode("utf-8", "replace") for value in values]
            lengths = map(len, parts)
            encoded = b"".join(parts)
        self._ends.extend(accumulate(lengths, initial=self._ends.pop()))
        self._text += encoded

    def _repeat(self, value: str | None, count: int) -> None:
        if value is None:
            self._presence.add_none(count)
        else:
            self._presence.add_all(count)
        encoded = (value or "").encode("utf-8", "replace")
        if encoded:
            step = len(encoded)
            first = self._ends[-1] + step
            self._ends.extend(range(first, first + count * step, step))
            self._text += encoded * count
        else:
            self._ends.extend(self._ends[-1:] * count)

    def buffers(self) -> Buffers:
        return self._presence.bitmap(), self._ends, self._text


class _Numbers:
    def __init__(self, code: str, most: int | None = None) -> None:
        """Hold values as ``array`` does under ``code``, integers of up to ``most``."""
        self._presence = _Presence()
        self._numbers = array(code)
        self._most = most

    def extend(self, values: Values) -> None:
        if values[0] is None and _is_one(values):
            self._presence.add_none(len(values))
            self._numbers.extend(array(self._numbers.typecode, [0]) * len(values))
            return
        try:
            numbers = array(self._numbers.typecode, values)
        except (TypeError, OverflowError):  # some are missing, or too large
            held = [value if self._holds(value) else None for value in values]
            self._presence.add(held)
            self._numbers.extend([number or 0 for number in held])
        else:
            self._presence.add_all(len(values))
            self._numbers.extend(numbers)

    def _holds(self, value: Any) -> bool:
        return value is not None and (self._most is None or -self._most <= value <= self._most)

    def buffers(self) -> Buffers:
        return self._presence.bitmap(), self._numbers


class _Booleans:
    def __init__(self) -> None:
        self._presence = _Presence()
        self._digits = bytearray()

    def extend(self, values: Values) -> None:
        self._presence.add(values)
        self._digits += bytes([48 + bool(value) for value in values])

    def buffers(self) -> Buffers:
        return self._presence.bitmap(), _bitmap(self._digits)


def _is_one(values: Values) -> bool:
    """Tell whether all values are the same; it looks at few of them where they are not."""
    first = values[0]
    return bool(first == values[-1]) and values.count(first) == len(values)


def _bitmap(digits: bytearray) -> bytes:
    """Return one bit per digit (``0`` or ``1``), the first one lowest."""
    return int(digits[::-1], 2).to_bytes((len(digits) + 7) // 8, "little")


_integers = partial(_Numbers, "q", (1 << 63) - 1)

_MAKERS: dict[str, tuple[Any, Callable[[], _Column]]] = {
    "VARCHAR": (nanoarrow.string(), _Texts),
    "BIGINT": (nanoarrow.int64(), _integers),
    "INTEGER": (nanoarrow.int32(), partial(_Numbers, "i", (1 << 31) - 1)),
    "TIMESTAMP": (nanoarrow.timestamp("us"), _integers),
    "DOUBLE": (nanoarrow.float64(), partial(_Numbers, "d")),
    "BOOLEAN": (nanoarrow.bool_(), _Booleans),
}
