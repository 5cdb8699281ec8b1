"""The tables of the read model, and the statements that fill them.

All but ``batches`` and ``checkpoint`` are append-only and carry the stream sequence (``seq``) of
their event. Times are UTC. There are no indexes: transactions come in stream order, so that
DuckDB's own minima and maxima per row group find a batch. Within one of a rebuild by several
processes rows stand process by process: whoever needs an order asks for it.
"""

from dataclasses import dataclass

SCHEMA_VERSION = 6
"""Raise it with any change below: a file of another version is rebuilt from the log."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its name, its columns with their DuckDB types, and columns of long texts."""

    name: str
    columns: dict[str, str]
    long: frozenset[str] = frozenset()
    """DuckDB takes less time and room for these with zstd than with what it would choose."""

    @property
    def create(self) -> str:
        """The statement that makes the table."""
        columns = ", ".join(
            f"{name} {kind}{' USING COMPRESSION zstd' if name in self.long else ''}"
            for name, kind in self.columns.items()
        )
        return f"CREATE TABLE {self.name} ({columns})"

    @property
    def insert(self) -> str:
        """The statement that inserts a few rows; its parameter is a list of rows as JSON texts."""
        shape = ", ".join(f'"{name}": "{_plain(kind)}"' for name, kind in self.columns.items())
        return (
            f"INSERT INTO {self.name} SELECT unnest(from_json(text, '{{{shape}}}'))"  # noqa: S608
            " FROM (SELECT unnest(?::VARCHAR[]) AS text)"
        )


def _plain(kind: str) -> str:
    return kind.removesuffix(" NOT NULL")


_TEXT = "VARCHAR"
_PLACE = {"seq": "BIGINT NOT NULL", "stored_at": "TIMESTAMP NOT NULL", "batch_id": "VARCHAR"}
_CALL = {
    "slice_index": "BIGINT",
    "slot": "INTEGER",
    "attempt": "INTEGER",
    "node": _TEXT,
    "topic": _TEXT,
    "area": _TEXT,
    "difficulty": _TEXT,
    "sample_type": _TEXT,
    "model": _TEXT,
    "provider": _TEXT,
    "route": _TEXT,
    "tokens_in": "BIGINT",
    "tokens_out": "BIGINT",
    "cost_nano_usd": "BIGINT",
    "latency_ms": "DOUBLE",
    "first_token_ms": "DOUBLE",
    "request_id": _TEXT,
    "prompt_hash": _TEXT,
    "finish_reason": _TEXT,
}

BATCHES = Table(
    "batches",
    {
        "batch_id": "VARCHAR NOT NULL",
        "started_seq": "BIGINT",
        "started_at": "TIMESTAMP",
        "phase": "VARCHAR NOT NULL",
        "state": _TEXT,
        "model": _TEXT,
        "provider": _TEXT,
        "recipe": _TEXT,
        "topic": _TEXT,
        "is_stuck": "BOOLEAN",
        "target": "BIGINT",
        "generated": "BIGINT",
        "failed": "BIGINT",
        "abandoned": "BIGINT",
        "rejected": "BIGINT",
        "tokens_in": "BIGINT",
        "tokens_out": "BIGINT",
        "cost_nano_usd": "BIGINT",
        "unpriced_calls": "BIGINT",
        "seq": "BIGINT NOT NULL",
        "moved_at": "TIMESTAMP",
        "first_sample_seq": "BIGINT",
        "first_sample_at": "TIMESTAMP",
        "first_sample_model": _TEXT,
        "first_sample_provider": _TEXT,
        "lengths": _TEXT,
        "head": _TEXT,
        "view": _TEXT,
    },
)
"""One row per batch, replaced on change. ``view`` is the BatchView as JSON, null for a batch that
was never started; ``first_sample_`` tell of its first row in ``samples``; ``head`` is what a fold
needs besides its slices to go on; ``lengths`` is JSON: the name of each text field of the samples,
how many samples have it, and their characters."""

SAMPLES = Table("samples", {**_PLACE, **_CALL, "content": _TEXT}, frozenset({"content"}))
"""The dataset: one row per slot whose first outcome was a sample. ``content`` is JSON."""

ATTEMPTS = Table(
    "attempts",
    {
        **_PLACE,
        "kind": _TEXT,
        **_CALL,
        "category": _TEXT,
        "rule": _TEXT,
        "message": _TEXT,
        "answer": _TEXT,
        "status_code": "INTEGER",
    },
)
"""Calls that gave no sample of the dataset: failed, rejected, abandoned, and outcomes that came
late or twice (``kind`` is the event's name, or ``uncounted``)."""

EVENTS = Table("events", {**_PLACE, "subject": _TEXT, "type": _TEXT, "payload": _TEXT})
"""Control events, notes, claims, releases, trials and closings as they were stored."""

SLICE_STATES = Table(
    "slice_states",
    {
        "seq": "BIGINT NOT NULL",
        "batch_id": _TEXT,
        "slice_index": "BIGINT",
        "late": _TEXT,
        "state": _TEXT,
    },
)
"""The folded state of each slice after each micro-batch that changed it, as JSON; ``late`` is the
bitmap of outcomes that came after the batch's end."""

CHECKPOINT = Table(
    "checkpoint",
    {
        "seq": "BIGINT NOT NULL",
        "stream": "VARCHAR NOT NULL",
        "schema_version": "INTEGER NOT NULL",
        "root": "VARCHAR NOT NULL",
        "chained": "BIGINT NOT NULL",
    },
)
"""One row: everything up to ``seq`` of the stream created at ``stream`` is folded; ``root`` is the
hash chain's there, over ``chained`` events."""

TABLES = (BATCHES, SAMPLES, ATTEMPTS, EVENTS, SLICE_STATES, CHECKPOINT)

APPENDED = (SAMPLES, ATTEMPTS, EVENTS, SLICE_STATES)
"""Those that only grow."""
