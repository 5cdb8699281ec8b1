"""The read model as it was at a sequence: the same queries on the same tables, cut off there.

Within the read transaction of a query, temporary views take the tables' names: of each table
they show the rows up to the sequence. ``batches`` alone is replaced on change, so the rows of
batches that went on afterwards are made anew by the fold.
"""

from dataclasses import dataclass, replace

import duckdb

from millstream_projector import tables
from millstream_projector.changes import Changes, as_json
from millstream_projector.heads import FirstSample, Known
from millstream_projector.past.folds import folds_at
from millstream_projector.past.lengths import known_at
from millstream_projector.past.log import PastLog
from millstream_projector.restoring import first_sample
from millstream_schemas.envelope import Contract

_CUT = (tables.SAMPLES, tables.ATTEMPTS, tables.EVENTS, tables.SLICE_STATES)
_WITH_LENGTHS = frozenset({"statistics", "quality"})
"""The queries that look at ``batches.lengths``, which take long to make anew."""
_WITHOUT_BATCHES = frozenset({"search"})
"""The queries that don't look at ``batches``: nothing is folded for them."""


@dataclass(frozen=True, slots=True)
class Past:
    """A moment of the past: ``sequence`` is the last one that counts."""

    sequence: int
    log: PastLog

    def enter(self, connection: duckdb.DuckDBPyConnection, name: str, request: Contract) -> None:
        """Let query ``name`` on ``connection`` see the past until its transaction is rolled back.

        Raises:
            LogError: the log, which fills what rows don't tell, does not answer.
        """
        source = _catalog(connection)
        if name not in _WITHOUT_BATCHES:
            batch_id = getattr(request, "batch_id", None)
            folds = folds_at(connection, self.sequence, batch_id, self.log)
            if name in _WITH_LENGTHS:
                known = known_at(connection, self.sequence, folds)
            else:
                known = [Known(state, state.last_progress_at) for state in folds]
            first = _first_samples(connection, self.sequence)
            known = [replace(one, first_sample=first.get(one.state.batch_id)) for one in known]
            _make_batches(connection, source, self.sequence, known)
        for table in _CUT:
            connection.execute(
                f"CREATE TEMP VIEW {table.name} AS"  # noqa: S608
                f" SELECT * FROM {source}.{table.name} WHERE seq <= {self.sequence:d}"
            )
        connection.execute(
            f"CREATE TEMP VIEW checkpoint AS SELECT * REPLACE ({self.sequence:d}::BIGINT AS seq)"  # noqa: S608
            f" FROM {source}.checkpoint"
        )


def _catalog(connection: duckdb.DuckDBPyConnection) -> str:
    catalog, schema = connection.execute("SELECT current_catalog(), current_schema()").fetchall()[0]
    return f'"{catalog}"."{schema}"'


def _first_samples(
    connection: duckdb.DuckDBPyConnection, sequence: int
) -> dict[str, FirstSample | None]:
    """Return the first samples, stored by then, of the batches that went on afterwards."""
    rows = connection.execute(
        "SELECT batch_id, first_sample_seq, first_sample_at, first_sample_model,"
        " first_sample_provider FROM batches WHERE seq > $1 AND first_sample_seq <= $1",
        [sequence],
    ).fetchall()
    return {batch_id: first_sample(*columns) for batch_id, *columns in rows}


def _make_batches(
    connection: duckdb.DuckDBPyConnection, source: str, sequence: int, known: list[Known]
) -> None:
    changes = Changes(sequence)
    for one in known:
        changes.settle(one, set())
    connection.execute(
        f"CREATE TEMP TABLE reopened AS SELECT * FROM {source}.batches LIMIT 0"  # noqa: S608
    )
    if changes.batches:
        insert = tables.BATCHES.insert.replace("INTO batches", "INTO reopened", 1)
        connection.execute(insert, [[as_json(row) for row in changes.batches.values()]])
    connection.execute(
        f"CREATE TEMP VIEW batches AS SELECT * FROM {source}.batches WHERE seq <= {sequence:d}"  # noqa: S608
        " UNION ALL BY NAME SELECT * FROM reopened"
    )
