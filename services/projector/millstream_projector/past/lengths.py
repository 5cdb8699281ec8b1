"""The lengths of a batch's texts at a sequence of the past, counted anew from its samples."""

from collections.abc import Iterable

import duckdb

from millstream.domain.batch_state import BatchState
from millstream_projector.heads import Known, Lengths


def known_at(
    connection: duckdb.DuckDBPyConnection, sequence: int, states: Iterable[BatchState]
) -> list[Known]:
    """Return ``states`` with the lengths of the texts that their samples had at ``sequence``.

    Fields that a batch has only later are no loss; what it had then it still has.
    """
    folds = list(states)
    batch_ids = [state.batch_id for state in folds]
    names = [
        name
        for (name,) in connection.execute(
            "SELECT DISTINCT unnest(json_keys(lengths)) AS name FROM batches"
            " WHERE batch_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY name",
            [batch_ids],
        ).fetchall()
    ]
    pointers = ["/" + name.replace("~", "~0").replace("/", "~1") for name in names]
    is_text = [f"starts_with(shown[{n}], '\"')" for n in range(1, len(names) + 1)]
    sums = "".join(
        f", count(*) FILTER ({test}), sum(length(texts[{n}])) FILTER ({test})"
        for n, test in enumerate(is_text, start=1)
    )
    rows = connection.execute(
        f"SELECT batch_id{sums} FROM (SELECT batch_id,"  # noqa: S608
        " json_extract(content, $1::VARCHAR[])::VARCHAR[] AS shown,"
        " json_extract_string(content, $1::VARCHAR[]) AS texts FROM samples"
        " WHERE seq <= $2 AND batch_id IN (SELECT unnest($3::VARCHAR[]))) GROUP BY batch_id",
        [pointers, sequence, batch_ids],
    ).fetchall()
    lengths: dict[str, Lengths] = {
        batch_id: {
            name: (counts[2 * n], int(counts[2 * n + 1]))
            for n, name in enumerate(names)
            if counts[2 * n]
        }
        for batch_id, *counts in rows
    }
    return [Known(state, None, lengths.get(state.batch_id, {})) for state in folds]
