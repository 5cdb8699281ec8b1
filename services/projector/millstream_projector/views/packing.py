"""Views of batches in a quarter of their size, each compressed against what most have in common."""

import zlib

import orjson

_WINDOW = -12
"""A view and the one it is likened to fit into so many bits of memory; without a header."""
_NAMES = "id dataset_id state model provider recipe_hash counts priority budgets"
_TIMES = "started_at last_progress_at finished_at"
_ALIKE = frozenset(f"{_NAMES} {_TIMES}".split())
"""What is no number and yet kept."""


class Packer:
    """Packs all views against the first one, of which it keeps no words of people or models."""

    def __init__(self) -> None:
        """Know no view."""
        self._likeness = b""

    def pack(self, view: str) -> bytes:
        """Return ``view``, packed."""
        self._likeness = self._likeness or _without_words(view)
        packing = zlib.compressobj(1, wbits=_WINDOW, memLevel=5, zdict=self._likeness)
        return packing.compress(view.encode()) + packing.flush()

    def unpack(self, packed: bytes) -> bytes:
        """Return the view that was packed here."""
        unpacking = zlib.decompressobj(wbits=_WINDOW, zdict=self._likeness)
        return unpacking.decompress(packed)


def _without_words(view: str) -> bytes:
    # It outlives its batch's errors and texts, so also their redaction.
    fields = orjson.loads(view)
    for name, value in fields.items():
        if value and isinstance(value, str | list | dict) and name not in _ALIKE:
            fields[name] = None
    return orjson.dumps(fields)
