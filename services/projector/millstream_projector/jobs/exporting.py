"""Writing an export: segments of samples in the order of the log, two at a time, joined in order.

A segment is one row group of so many rows, sorted by itself: neither memory nor layout depends on
how large the dataset is or how its rows lie in the file, so the same pin gives the same bytes.
"""

import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import IO

import duckdb

from millstream_projector.audit.digests import Sums
from millstream_projector.changes import as_json
from millstream_projector.jobs.dataset import Selection, pointer
from millstream_projector.jobs.dataset_page import dataset_page
from millstream_projector.jobs.parquet import ParquetWriter, append_file
from millstream_schemas.exports import DatasetCard, ExportFormat

SEGMENT_ROWS = 40_960
"""A multiple of DuckDB's vectors of 2,048 rows; about 50 MB in memory at 1.2 KB a sample."""
SHARD_SEGMENTS = 10
THREADS = 2
CARD_KEY = "millstream"
_HALF = 2**64 - 1
_SHARD = "data/train-{:05d}-of-{:05d}.parquet"

Tell = Callable[[int, int], None]
"""Told how many bytes of the output, and how many of its rows, are written."""

_CALL = [
    "batch_id",
    "slot",
    "attempt",
    "topic",
    "area",
    "difficulty",
    "sample_type",
    "model",
    "provider",
    "route",
    "node",
    "tokens_in",
    "tokens_out",
    "cost_nano_usd",
    "latency_ms",
    "first_token_ms",
    "request_id",
    "prompt_hash",
    "finish_reason",
]


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment as a file of its own, and what its samples add to the digest."""

    path: Path
    sums: Sums


class Exporter:
    """Writes one selection; ``connection`` must have its table ``wanted``."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        selection: Selection,
        directory: Path,
        tell: Tell,
    ) -> None:
        """Make parts in ``directory``."""
        self._connection = connection
        self._selection = selection
        self._directory = directory
        self._tell = tell
        self._rows = 0
        self._sums = Sums()

    def write(self, form: ExportFormat, output: IO[bytes]) -> DatasetCard:
        """Write the export to ``output`` and return its card.

        Raises:
            duckdb.Error: the read model can't be read.
            OSError: the disk takes no more.
        """
        match form:
            case "jsonl":
                self._write_lines(output)
            case "parquet":
                self._write_parquet(output)
            case "hf":
                self._write_folder(output)
        return self.card()

    def card(self) -> DatasetCard:
        """Return the card of what has been written."""
        selection = self._selection
        return DatasetCard(
            id=selection.id,
            dataset_id=selection.dataset_id,
            stream=selection.stream,
            since=selection.since,
            at_seq=selection.at_seq,
            samples=self._sums.rows,
            redacted=selection.redacted,
            digest=self._sums.digest,
            fields=selection.fields,
            counts=selection.counts,
            batches=tuple(selection.batches),
            **selection.sums,
        )

    def _write_lines(self, output: IO[bytes]) -> None:
        size = 0
        for part in self._parts("jsonl"):
            size += append_file(part.path, output)
            self._written(part, output, size)

    def _write_parquet(self, output: IO[bytes]) -> None:
        writer = ParquetWriter(output)
        for part in self._parts("parquet"):
            writer.add(part.path)
            self._written(part, output, writer.size)
        writer.finish({CARD_KEY: self.card().model_dump_json()})

    def _write_folder(self, output: IO[bytes]) -> None:
        parts = self._parts("parquet")
        segments = max(1, -(-self._selection.total // SEGMENT_ROWS))
        shards = -(-segments // SHARD_SEGMENTS)
        with tarfile.open(fileobj=output, mode="w", format=tarfile.GNU_FORMAT) as folder:
            for number in range(shards):
                path = self._directory / "shard"
                with path.open("wb") as shard:
                    writer = ParquetWriter(shard)
                    for part in islice(parts, SHARD_SEGMENTS):
                        writer.add(part.path)
                        self._written(part, output, output.tell())
                    writer.finish({CARD_KEY: self._pin()})
                with path.open("rb") as shard:
                    folder.addfile(_entry(_SHARD.format(number, shards), writer.size), shard)
                path.unlink()
            card = self.card()
            for name, text in (
                ("card.json", card.model_dump_json(indent=2) + "\n"),
                ("README.md", dataset_page(card)),
            ):
                content = text.encode()
                folder.addfile(_entry(name, len(content)), BytesIO(content))

    def _pin(self) -> str:
        """Return what is known of a shard before all are written."""
        fields = {"kind", "id", "dataset_id", "stream", "since", "at_seq"}
        return self.card().model_dump_json(include=fields)

    def _written(self, part: _Part, output: IO[bytes], size: int) -> None:
        part.path.unlink()
        self._rows += part.sums.rows
        self._sums = self._sums.plus(part.sums)
        output.flush()
        self._tell(size, self._rows)

    def _parts(self, suffix: str) -> Iterator[_Part]:
        """Yield the segments in order; the next ones are being made meanwhile."""
        bounds = self._bounds()
        with ThreadPoolExecutor(THREADS, thread_name_prefix="segment") as pool:
            waiting: list[Future[_Part]] = []
            try:
                for number, (low, high) in enumerate(bounds):
                    path = self._directory / f"part-{number}.{suffix}"
                    waiting.append(pool.submit(self._make, path, low, high))
                    if len(waiting) > THREADS:
                        yield waiting.pop(0).result()
                while waiting:
                    yield waiting.pop(0).result()
            finally:
                for future in waiting:
                    future.cancel()

    def _bounds(self) -> list[tuple[int, int]]:
        """Return the first sequence of each segment and that of the next one."""
        firsts = [
            seq
            for (seq,) in self._connection.execute(
                "SELECT seq FROM (SELECT seq, row_number() OVER (ORDER BY seq) AS place"  # noqa: S608
                f" FROM samples WHERE {self._selection.where})"
                f" WHERE place % {SEGMENT_ROWS} = 1 ORDER BY seq"
            ).fetchall()
        ]
        end = self._selection.at_seq + 1
        return list(zip(firsts or [end], [*firsts[1:], end], strict=True))

    def _make(self, path: Path, low: int, high: int) -> _Part:
        where = str(path).replace("'", "''")
        with self._connection.cursor() as cursor:
            cursor.execute("USE views")
            cursor.execute(
                f"CREATE TEMP TABLE segment_{low} AS SELECT * FROM samples"  # noqa: S608
                f" WHERE {self._selection.where} AND seq >= {low} AND seq < {high} ORDER BY seq"
            )
            try:
                rows, upper, lower = cursor.execute(
                    f"SELECT count(*), coalesce(sum((md5 & {_HALF})::UBIGINT), 0),"  # noqa: S608
                    " coalesce(sum((md5 >> 64)::UBIGINT), 0) FROM"
                    f" (SELECT md5_number(concat(seq, ':', content)) AS md5 FROM segment_{low})"
                ).fetchall()[0]
                cursor.execute(self._copy(f"segment_{low}", where, path.suffix))
            finally:
                cursor.execute(f"DROP TABLE segment_{low}")
        return _Part(path, Sums(rows, int(upper), int(lower)))

    def _copy(self, table: str, where: str, suffix: str) -> str:
        # The table was filled in order, and DuckDB preserves the order of insertion.
        if suffix == ".jsonl":
            return (
                f"COPY ({self._lines(table)}) TO '{where}' (FORMAT csv, HEADER false, QUOTE '',"
                " ESCAPE '', DELIMITER E'\\x01')"
            )
        return (
            f"COPY ({self._columns(table)}) TO '{where}' (FORMAT parquet, COMPRESSION zstd,"
            f" ROW_GROUP_SIZE {SEGMENT_ROWS})"
        )

    def _columns(self, table: str) -> str:
        fields, columns = self._selection.fields, self._selection.columns
        # One pass over the JSON for all fields; only names that differ in case need their own.
        shape = {name: kind for name, kind in fields.items() if columns[name] == name}
        shown = [
            f"fields.{_quoted(name)}"
            if name in shape
            else f"TRY_CAST(content->>{pointer(name)} AS {fields[name]}) AS {_quoted(column)}"
            for name, column in columns.items()
        ]
        parsed = (
            f"from_json(content, {_text(as_json(shape))}) AS fields" if shape else "1 AS fields"
        )
        provenance = ", ".join(f"'{name}': {name}" for name in _CALL)
        return (
            f"SELECT {''.join(f'{one}, ' for one in shown)}"  # noqa: S608
            "{'id': concat(batch_id, '-', slot), 'sequence': seq, 'created_at': stored_at,"
            f" {provenance}}} AS {_quoted(self._selection.provenance)}"
            f" FROM (SELECT *, {parsed} FROM {table})"
        )

    def _lines(self, table: str) -> str:
        """Return SQL whose rows are JSON lines: the content as it was stored, and whence it is."""
        provenance = ", ".join(f"'{name}', {name}" for name in _CALL)
        key = _text(f",{as_json(self._selection.provenance)}:")
        return (
            f"SELECT concat(left(content, -1), ltrim({key}, if(content = '{{}}', ',', '')),"  # noqa: S608
            " json_object('id', concat(batch_id, '-', slot), 'sequence', seq,"
            " 'created_at', strftime(stored_at, '%Y-%m-%dT%H:%M:%S.%fZ'),"
            f" {provenance}), '}}') AS line FROM {table}"
        )


def _entry(name: str, size: int) -> tarfile.TarInfo:
    """Return a member of a tar without anything that differs from one time to the next."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o644
    return entry


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
