"""Aggregates kept in memory, so that a million rows are counted once and not with every question.

Every table but ``batches`` only grows, so what was counted up to a sequence stays true; of
``batches`` the rows that changed are known by their sequence. Whoever lets queries see a moment
of the past has to let them see its ``checkpoint`` too: it is what tells these moments apart.
"""

import threading
from collections import Counter
from dataclasses import dataclass, field

import duckdb
import orjson

from millstream_projector.views.paging import Filter, facets, one

BLOCK = 2**15
"""Sequences; sums are kept at whole blocks, so that readers of other moments share them. What is
beyond the last whole block is counted with every question."""
SUMS_KEPT = 32
MODELS_KEPT = 4
"""Read models that are remembered: one per process in earnest, more in tests."""

Tallies = dict[str, Counter[str]]
Rows = list[dict[str, object]]


@dataclass(slots=True)
class Buckets:
    """Rows of statistics by bucket number, all of them complete as of sequence ``upto``."""

    upto: int = 0
    rows: dict[int, tuple[int, Rows]] = field(default_factory=dict)


@dataclass(slots=True)
class Lengths:
    """The lengths of the texts of every batch as of ``upto``, and their sums by field."""

    upto: int = 0
    of_batches: dict[str, bytes] = field(default_factory=dict)
    samples: Counter[str] = field(default_factory=Counter)
    characters: Counter[str] = field(default_factory=Counter)

    def replace(self, batch_id: str, text: str) -> None:
        """Put a batch's lengths (JSON) in the place of those that were known."""
        self._add(self.of_batches.get(batch_id, b"{}"), -1)
        self.of_batches[batch_id] = text.encode()
        self._add(self.of_batches[batch_id], 1)

    def _add(self, text: bytes, sign: int) -> None:
        for name, (samples, characters) in orjson.loads(text).items():
            self.samples[name] += sign * samples
            self.characters[name] += sign * characters


@dataclass(slots=True)
class Running:
    """What is known of one read model; readers take turns with it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    sums: dict[tuple[str, int], Tallies] = field(default_factory=dict)
    """(Axes, number of blocks) -> tallies of all samples in so many blocks."""
    buckets: dict[tuple[int, str], Buckets] = field(default_factory=dict)
    """(Seconds of a bucket, what rows are per) -> rows."""
    lengths: Lengths = field(default_factory=Lengths)


_known: dict[tuple[str, str], Running] = {}
_lock = threading.Lock()


def running(connection: duckdb.DuckDBPyConnection) -> tuple[Running, int]:
    """Return what is known of the read model behind ``connection``, and its checkpoint."""
    as_of, stream, path = one(
        connection,
        "SELECT seq, stream, (SELECT max(path) FROM duckdb_databases()"
        " WHERE database_name = current_database()) FROM checkpoint",
    )
    key = (stream, path or str(id(connection)))
    with _lock:
        found = _known.setdefault(key, Running())
        while len(_known) > MODELS_KEPT:
            _known.pop(next(iter(_known)))
    return found, as_of


def tally(
    connection: duckdb.DuckDBPyConnection, axes: dict[str, str]
) -> dict[str, list[tuple[str, int]]]:
    """Return how many samples have each value of each axis (name -> SQL), most frequent first."""
    known, as_of = running(connection)
    blocks = as_of // BLOCK
    key = repr(axes)
    with known.lock:
        base = max((n for its, n in known.sums if its == key and n <= blocks), default=0)
        sums = known.sums.get((key, base)) or {name: Counter() for name in axes}
    if base < blocks:
        more = _between(connection, axes, base * BLOCK, blocks * BLOCK)
        sums = {name: sums[name] + more[name] for name in axes}
        with known.lock:
            known.sums[key, blocks] = sums
            while len(known.sums) > SUMS_KEPT:
                known.sums.pop(next(iter(known.sums)))
    rest = _between(connection, axes, blocks * BLOCK, as_of)
    return {
        name: sorted((sums[name] + rest[name]).items(), key=lambda item: (-item[1], item[0]))
        for name in axes
    }


def _between(
    connection: duckdb.DuckDBPyConnection, axes: dict[str, str], begin: int, end: int
) -> Tallies:
    where = Filter()
    where.add("seq > ? AND seq <= ?", begin, end)
    found = facets(connection, "samples", axes, where)
    return {name: Counter(dict(values)) for name, values in found.items()}


def average_lengths(connection: duckdb.DuckDBPyConnection) -> dict[str, float]:
    """Return how many characters each text field of all samples has on average."""
    known, as_of = running(connection)
    with known.lock:
        # A reader whose moment is older than what is kept counts anew, for itself alone.
        lengths = known.lengths if as_of >= known.lengths.upto else Lengths()
        changed = connection.execute(
            # A redaction shortens the lengths of a batch that need not have gone on.
            "SELECT batch_id, lengths FROM batches WHERE lengths IS NOT NULL AND (seq > ? OR"
            " batch_id IN (SELECT batch_id FROM events WHERE seq > ? AND type LIKE '%redacted%'))",
            [lengths.upto, lengths.upto],
        ).fetchall()
        for batch_id, text in changed:
            lengths.replace(batch_id, text)
        lengths.upto = as_of
        return {
            name: round(lengths.characters[name] / samples, 2)
            for name, samples in sorted(lengths.samples.items())
            if samples
        }
