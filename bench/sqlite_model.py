"""What people would pick instead: SQLite with executemany, the same rows, the same checkpoint."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import orjson

from millstream.eventlog.stored import Stored

_COLUMNS = (
    *("batch_id", "slice", "slot", "attempt", "node", "topic", "area", "difficulty"),
    *("sample_type", "model", "provider", "route", "tokens_in", "tokens_out", "cost", "latency_ms"),
    *("first_token_ms", "request_id", "prompt_hash", "finish_reason", "content"),
)


class SqliteModel:
    """Samples as rows and counts per batch, in SQLite's own write-ahead log."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path)
        columns = ", ".join(_COLUMNS)
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = NORMAL",
            f"CREATE TABLE samples (seq INTEGER PRIMARY KEY, stored_at TEXT, {columns})",
            "CREATE TABLE events (seq INTEGER PRIMARY KEY, batch_id, type, payload)",
            "CREATE TABLE batches (batch_id PRIMARY KEY, generated, tokens_out)",
            "CREATE TABLE checkpoint (seq)",
            "INSERT INTO checkpoint VALUES (0)",
        ):
            self._connection.execute(statement)
        self._connection.commit()

    def advance(self, stored: Sequence[Stored]) -> None:
        """Store what follows, in one transaction."""
        samples, events, counts = [], [], []
        for item in stored:
            event = orjson.loads(item.payload)
            if event["type"] == "sample.generated.v1":
                samples.append(_sample(item, event))
                counts.append((event["batch_id"], event["usage"]["tokens_out"]))
            else:
                events.append((item.sequence, event["batch_id"], event["type"], item.payload))
        marks = ", ".join("?" * (len(_COLUMNS) + 2))
        with self._connection as connection:
            connection.executemany(f"INSERT INTO samples VALUES ({marks})", samples)  # noqa: S608
            connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", events)
            connection.executemany(
                "INSERT INTO batches VALUES (?1, 1, ?2) ON CONFLICT DO UPDATE"
                " SET generated = generated + 1, tokens_out = tokens_out + ?2",
                counts,
            )
            connection.execute("UPDATE checkpoint SET seq = ?", [stored[-1].sequence])

    def close(self) -> None:
        """Move everything into the file."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()


def _sample(item: Stored, event: dict[str, object]) -> tuple[object, ...]:
    cell, usage, after = event["cell"], event["usage"], event["after"]
    if not (isinstance(cell, dict) and isinstance(usage, dict) and isinstance(after, dict)):
        raise TypeError(f"event {item.sequence} is no sample")
    return (
        *(item.sequence, item.stored_at.isoformat(), event["batch_id"], event["slice"]),
        *(event["slot"], event["attempt"], after["node"], cell["topic"], cell["area"]),
        *(cell["difficulty"], cell["sample_type"], event["model"], event["provider"]),
        *(event.get("route"), usage.get("tokens_in"), usage.get("tokens_out")),
        *(usage.get("cost_nano_usd"), usage.get("latency_ms"), usage.get("first_token_ms")),
        *(event.get("request_id"), event.get("prompt_hash"), event.get("finish_reason")),
        orjson.dumps(event["content"]),
    )
