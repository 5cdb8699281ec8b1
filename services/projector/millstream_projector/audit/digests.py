"""Canonical digests of the tables, computed inside DuckDB.

A row's canonical form is its JSON as DuckDB writes it, its hash the MD5 of that. A digest is the
sum of its rows' hashes in two halves, so the order of rows changes nothing, and the digests of
parts add up to that of the whole. It tells files apart that folded differently; that nobody
changed the log is the hash chain's to prove.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import duckdb

from millstream_schemas.audit import BUCKETS, TableDigest


@dataclass(frozen=True, slots=True)
class Source:
    """What is compared of a table: a key that names a row, and the rows of one moment."""

    key: str
    rows: str


SOURCES: Mapping[str, Source] = {
    "batches": Source("batch_id", "SELECT * FROM batches WHERE seq <= $until"),
    "samples": Source("seq::VARCHAR", "SELECT * FROM samples WHERE seq <= $until"),
    "attempts": Source("seq::VARCHAR", "SELECT * FROM attempts WHERE seq <= $until"),
    "events": Source("seq::VARCHAR", "SELECT * FROM events WHERE seq <= $until"),
    # A row stands for the end of a micro-batch, and those fall as the load wills; what the last
    # one says of a slice does not.
    "slice_states": Source(
        "concat(batch_id, '/', slice_index)",
        "SELECT batch_id, slice_index, max(seq) AS seq, arg_max(late, seq) AS late,"
        " arg_max(state, seq) AS state FROM slice_states WHERE seq <= $until"
        " GROUP BY batch_id, slice_index",
    ),
}
"""By table; the checkpoint is compared by its sequence and its root."""


class Sums(NamedTuple):
    """How many rows, and the sums of both halves of their hashes."""

    rows: int = 0
    upper: int = 0
    lower: int = 0

    def plus(self, other: "Sums") -> "Sums":
        """Return the sums over both."""
        return Sums(self.rows + other.rows, self.upper + other.upper, self.lower + other.lower)

    @property
    def digest(self) -> str:
        """Thirty-two hexadecimal digits."""
        text = f"{self.rows}:{self.upper:x}:{self.lower:x}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]


Buckets = dict[int, Sums]


def bucket_sums(connection: duckdb.DuckDBPyConnection, table: str, until: int) -> Buckets:
    """Return the sums of each bucket of a table's rows up to sequence ``until``.

    Raises:
        duckdb.Error: the table can't be read.
    """
    found = connection.execute(
        f"SELECT {_bucket('key')}, count(*), sum(md5_number_upper(text)),"  # noqa: S608
        f" sum(md5_number_lower(text)) FROM ({_texts(table)}) GROUP BY ALL",
        {"until": until},
    ).fetchall()
    return {bucket: Sums(rows, int(upper), int(lower)) for bucket, rows, upper, lower in found}


def added(parts: Iterable[Buckets]) -> Buckets:
    """Return the sums of a table whose rows are spread over several files."""
    whole: Buckets = {}
    for part in parts:
        for bucket, sums in part.items():
            whole[bucket] = whole.get(bucket, Sums()).plus(sums)
    return whole


def table_digest(buckets: Buckets) -> TableDigest:
    """Return the digest of a table, and of each of its buckets."""
    whole = Sums()
    for sums in buckets.values():
        whole = whole.plus(sums)
    return TableDigest(
        rows=whole.rows,
        digest=whole.digest,
        buckets={bucket: sums.digest for bucket, sums in sorted(buckets.items())},
    )


def bucket_hashes(
    connection: duckdb.DuckDBPyConnection, table: str, bucket: int, until: int
) -> dict[str, str]:
    """Return the hash of each row of one bucket, by key; raises as ``bucket_sums``."""
    return dict(
        connection.execute(
            f"SELECT key, md5(text) FROM ({_texts(table)})"  # noqa: S608
            f" WHERE {_bucket('key')} = $bucket ORDER BY key",
            {"until": until, "bucket": bucket},
        ).fetchall()
    )


def row_texts(
    connection: duckdb.DuckDBPyConnection, table: str, keys: Sequence[str], until: int
) -> dict[str, str]:
    """Return rows as JSON texts, by key; a key without a row is left out."""
    return dict(
        connection.execute(
            f"SELECT key, text FROM ({_texts(table)})"  # noqa: S608
            " WHERE key IN (SELECT unnest($keys::VARCHAR[])) ORDER BY key",
            {"until": until, "keys": list(keys)},
        ).fetchall()
    )


def _texts(table: str) -> str:
    source = SOURCES[table]
    return (
        f"SELECT {source.key} AS key, to_json(found)::VARCHAR AS text FROM ({source.rows}) AS found"  # noqa: S608
    )


def _bucket(key: str) -> str:
    return f"(md5_number_lower({key}) % {BUCKETS})::INTEGER"
