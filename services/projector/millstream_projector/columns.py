"""Rows as Arrow columns, which DuckDB takes as they are: no text to write and none to parse.

A value that a column can't hold is stored as null, a lone surrogate as a question mark.
"""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import nanoarrow

Values = Sequence[Any]
Buffers = tuple[bytes | None, *tuple[Any, ...]]
"""What Arrow holds of a column; the first tells which values are there, None: all of them."""


def arrow_rows(kinds: Mapping[str, str], columns: Mapping[str, Values]) -> nanoarrow.Array:
    """Return ``columns`` as one Arrow array of rows.

    Args:
        kinds: Each column's DuckDB type, in the table's order.
        columns: As many values for each of them; times are microseconds since 1970 (UTC).
    """
    children, fields = [], {}
    length = len(next(iter(columns.values())))
    for name, kind in kinds.items():
        arrow_kind, make = _MAKERS[kind.removesuffix(" NOT NULL")]
        buffers = make(columns[name])
        missing = 0 if buffers[0] is None else -1  # -1: count them
        fields[name] = arrow_kind
        children.append(
            nanoarrow.c_array_from_buffers(arrow_kind, length, buffers, null_count=missing)
        )
    shape = nanoarrow.struct(fields, nullable=False)
    return nanoarrow.Array(nanoarrow.c_array_from_buffers(shape, length, [None], children=children))


def _texts(values: Values) -> Buffers:
    present = None
    try:
        joined = "".join(values)
    except TypeError:  # some are missing
        present = _presence(values)
        values = [value or "" for value in values]
        joined = "".join(values)
    if joined.isascii():
        buffer, lengths = joined.encode(), map(len, values)
    else:
        encoded = [value.encode("utf-8", "replace") for value in values]
        buffer, lengths = b"".join(encoded), map(len, encoded)
    return present, array("i", accumulate(lengths, initial=0)), buffer


def _integers(code: str, bits: int, values: Values) -> Buffers:
    try:
        return None, array(code, values)
    except (TypeError, OverflowError):  # some are missing, or too large
        most = (1 << bits - 1) - 1
        held = [
            number if number is not None and -most <= number <= most else None for number in values
        ]
        return _presence(held), array(code, [number or 0 for number in held])


def _floats(values: Values) -> Buffers:
    try:
        return None, array("d", values)
    except TypeError:  # some are missing
        return _presence(values), array("d", [number or 0.0 for number in values])


def _booleans(values: Values) -> Buffers:
    return _presence(values), _bitmap(values)


def _presence(values: Values) -> bytes:
    return _bitmap(value is not None for value in values)


def _bitmap(marks: Iterable[Any]) -> bytes:
    """Return one bit per mark, the first one lowest."""
    digits = "".join(["1" if mark else "0" for mark in marks])
    return int(digits[::-1], 2).to_bytes((len(digits) + 7) // 8, "little")


_MAKERS: dict[str, tuple[Any, Callable[[Values], Buffers]]] = {
    "VARCHAR": (nanoarrow.string(), _texts),
    "BIGINT": (nanoarrow.int64(), partial(_integers, "q", 64)),
    "INTEGER": (nanoarrow.int32(), partial(_integers, "i", 32)),
    "TIMESTAMP": (nanoarrow.timestamp("us"), partial(_integers, "q", 64)),
    "DOUBLE": (nanoarrow.float64(), _floats),
    "BOOLEAN": (nanoarrow.bool_(), _booleans),
}
