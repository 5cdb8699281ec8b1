"""Parquet files put together from parts with the same columns, so that none is ever held whole.

Parts are copied byte for byte; only their footers are read and written anew, with the offsets of
their columns moved. The footer is a struct in Thrift's compact protocol (Apache Parquet's
``parquet.thrift`` numbers its fields), which is read here as far as it is needed: generically.
"""

import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

MAGIC = b"PAR1"
BOOLEANS = {1, 2}
"""True and false stand in the type of a field itself."""
_BYTE, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _STRUCT = 3, {4, 5, 6}, 7, 8, {9, 10}, 12

Struct = dict[int, tuple[int, Any]]
"""Field number -> (type, value); the value of a list is (type of its elements, elements)."""

# FileMetaData, RowGroup, ColumnChunk and ColumnMetaData by the numbers of their fields.
_ROWS, _ROW_GROUPS, _KEY_VALUES = 3, 4, 5
_CHUNKS, _GROUP_OFFSET, _ORDINAL = 1, 5, 7
_CHUNK_OFFSETS, _CHUNK_META = (2, 4, 6), 3
_META_OFFSETS = (9, 10, 11, 14)


class ParquetError(Exception):
    """The part is no Parquet file as DuckDB writes them."""


class ParquetWriter:
    """Writes one Parquet file to ``target``; parts come in order, ``finish`` ends it."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self._footer: Struct | None = None
        self._groups: list[Struct] = []
        self._rows = 0
        target.write(MAGIC)
        self._size = len(MAGIC)

    def add(self, part: Path) -> None:
        """Append the row groups of a part.

        Raises:
            ParquetError: it is no Parquet file.
            OSError: it can't be read, or the target not written.
        """
        with part.open("rb") as file:
            footer, data_bytes = _read_footer(file)
            file.seek(len(MAGIC))
            _copy(file, self._target, data_bytes - len(MAGIC))
        shift = self._size - len(MAGIC)
        for group in footer[_ROW_GROUPS][1][1]:
            _move(group, shift)
            group[_ORDINAL] = (4, len(self._groups))
            self._groups.append(dict(sorted(group.items())))
        self._rows += footer[_ROWS][1]
        self._size += data_bytes - len(MAGIC)
        self._footer = self._footer or footer

    def finish(self, key_values: Mapping[str, str]) -> None:
        """Write the footer with these key-value pairs; there must be a part.

        Raises:
            OSError: the target can't be written.
        """
        if self._footer is None:
            raise ParquetError("a Parquet file needs at least one part, even an empty one")
        pairs = [
            {1: (_BINARY, key.encode()), 2: (_BINARY, value.encode())}
            for key, value in key_values.items()
        ]
        footer = {
            **self._footer,
            _ROWS: (6, self._rows),
            _ROW_GROUPS: (9, (_STRUCT, self._groups)),
            _KEY_VALUES: (9, (_STRUCT, pairs)),
        }
        text = bytearray()
        _write_struct(text, dict(sorted(footer.items())))
        self._target.write(text + struct.pack("<I", len(text)) + MAGIC)
        self._size += len(text) + 8

    @property
    def size(self) -> int:
        """How many bytes have been written."""
        return self._size


def _move(group: Struct, shift: int) -> None:
    _shift_field(group, _GROUP_OFFSET, shift)
    for chunk in group[_CHUNKS][1][1]:
        for number in _CHUNK_OFFSETS:
            _shift_field(chunk, number, shift)
        for number in _META_OFFSETS:
            _shift_field(chunk[_CHUNK_META][1], number, shift)


def _shift_field(fields: Struct, number: int, shift: int) -> None:
    if number in fields and fields[number][1] > 0:  # 0 says that there is none
        kind, value = fields[number]
        fields[number] = (kind, value + shift)


def _read_footer(file: IO[bytes]) -> tuple[Struct, int]:
    """Return the footer, and where it begins."""
    end = file.seek(0, 2)
    file.seek(max(0, end - 8))
    length, magic = struct.unpack("<I4s", file.read(8).rjust(8, b"\0"))
    begin = end - 8 - length
    if magic != MAGIC or begin < len(MAGIC):
        raise ParquetError("a part of an export is no whole Parquet file")
    file.seek(begin)
    fields, _ = _read_struct(memoryview(file.read(length)), 0)
    return fields, begin


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    while size:
        piece = source.read(min(size, 2**20))
        if not piece:
            raise ParquetError("a part of an export ends too early")
        target.write(piece)
        size -= len(piece)


def append_file(part: Path, target: IO[bytes]) -> int:
    """Append all of ``part``; return its size in bytes.

    Raises:
        OSError: it can't be read, or the target not written.
    """
    with part.open("rb") as file:
        shutil.copyfileobj(file, target, 2**20)
        return file.tell()


def _read_varint(text: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = text[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _read_zigzag(text: memoryview, at: int) -> tuple[int, int]:
    value, at = _read_varint(text, at)
    return (value >> 1) ^ -(value & 1), at


def _read_struct(text: memoryview, at: int) -> tuple[Struct, int]:
    fields: Struct = {}
    number = 0
    while head := text[at]:
        at += 1
        kind, delta = head & 0x0F, head >> 4
        if delta:
            number += delta
        else:
            number, at = _read_zigzag(text, at)
        if kind in BOOLEANS:
            fields[number] = (kind, None)
        else:
            value, at = _read_value(text, at, kind)
            fields[number] = (kind, value)
    return fields, at + 1


def _read_value(text: memoryview, at: int, kind: int) -> tuple[Any, int]:
    if kind in BOOLEANS or kind == _BYTE:
        return text[at], at + 1
    if kind in _INTEGERS:
        return _read_zigzag(text, at)
    if kind == _DOUBLE:
        return bytes(text[at : at + 8]), at + 8
    if kind == _BINARY:
        length, at = _read_varint(text, at)
        return bytes(text[at : at + length]), at + length
    if kind == _STRUCT:
        return _read_struct(text, at)
    if kind in _LISTS:
        inner, count, at = text[at] & 0x0F, text[at] >> 4, at + 1
        if count == 15:
            count, at = _read_varint(text, at)
        elements = []
        for _ in range(count):
            value, at = _read_value(text, at, inner)
            elements.append(value)
        return (inner, elements), at
    raise ParquetError(f"the footer of a part holds a value of type {kind}")


def _write_varint(out: bytearray, value: int) -> None:
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _write_zigzag(out: bytearray, value: int) -> None:
    _write_varint(out, value << 1 if value >= 0 else (-value << 1) - 1)


def _write_struct(out: bytearray, fields: Struct) -> None:
    last = 0
    for number, (kind, value) in fields.items():
        delta = number - last
        if 0 < delta < 16:
            out.append(delta << 4 | kind)
        else:
            out.append(kind)
            _write_zigzag(out, number)
        last = number
        if kind not in BOOLEANS:
            _write_value(out, kind, value)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in BOOLEANS or kind == _BYTE:
        out.append(value)
    elif kind in _INTEGERS:
        _write_zigzag(out, value)
    elif kind == _DOUBLE:
        out += value
    elif kind == _BINARY:
        _write_varint(out, len(value))
        out += value
    elif kind == _STRUCT:
        _write_struct(out, value)
    else:
        inner, elements = value
        out.append((min(len(elements), 15) << 4) | inner)
        if len(elements) >= 15:
            _write_varint(out, len(elements))
        for element in elements:
            _write_value(out, inner, element)
