"""`python -m millstream_projector.jobs.child`: one job, told on stdin (``millstream.jobs``)."""

import contextlib
import json
import os
import resource
import sys
import threading
from pathlib import Path
from typing import Any

import duckdb

from millstream.jobs.process import JobOrder
from millstream_projector.jobs import sql
from millstream_projector.jobs.dataset import select
from millstream_projector.jobs.exporting import Exporter
from millstream_projector.tables import SCHEMA_VERSION
from millstream_projector.views.paging import RefusedError, one
from millstream_schemas.exports import ExportRequest

NICENESS = 10
"""Whoever projects goes first."""
EXPORT_MEMORY = "320MB"
MEMORY_BYTES_MOST = 2 * 2**30


def main() -> int:
    """Do what the line on stdin says; exit code 1 when it was refused."""
    order = JobOrder.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(NICENESS)
    try:
        _work(order)
    except RefusedError as error:
        _say(refused={"code": error.code, "message": str(error)})
        return 1
    except (duckdb.Error, OSError, MemoryError) as error:
        words = " ".join(str(error).split())[:1000]
        _say(refused={"code": "failed", "message": f"the job failed: {words}"})
        return 1
    return 0


def _work(order: JobOrder) -> None:
    directory, request = Path(order.directory), order.request
    is_export = isinstance(request, ExportRequest)
    connection = sql.open_copy(
        Path(order.source),
        directory,
        memory_limit=EXPORT_MEMORY if is_export else sql.MEMORY_LIMIT,
        writes_to=directory if is_export else None,
    )
    # What DuckDB does not count, such as one enormous text, must not take the machine's memory.
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES_MOST, MEMORY_BYTES_MOST))
    progress = _Progress()
    with contextlib.closing(connection), (directory / "output").open("wb") as output:
        as_of, version = one(connection, "SELECT seq, schema_version FROM checkpoint")
        if version != SCHEMA_VERSION:
            raise RefusedError("failed", f"the read model is of version {version}; rebuild it")
        if isinstance(request, ExportRequest):
            selection = select(connection, request)
            _say(opened={"as_of": selection.at_seq, "total": selection.total})
            exporter = Exporter(connection, selection, directory, progress.tell)
            card = exporter.write(request.format, output)
            text = card.model_dump_json(indent=2) + "\n"
            (directory / "card").write_text(text, encoding="utf-8")
        else:
            _say(opened={"as_of": as_of})
            sql.run_sql(connection, request, output, progress.tell)
    progress.finish((directory / "output").stat().st_size)


class _Progress:
    """Says how much of the output there is."""

    def __init__(self) -> None:
        self._rows = 0

    def tell(self, size: int, rows: int) -> None:
        self._rows = rows
        _say(bytes=size, rows=rows)

    def finish(self, size: int) -> None:
        _say(bytes=size, rows=self._rows, is_done=True)


def _say(**told: Any) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)  # nobody is left to tell anything


if __name__ == "__main__":
    sys.exit(main())
