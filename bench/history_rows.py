"""A read model filled with rows directly, as many as a bench asks for, and the same in SQLite.

The rows are made by DuckDB itself; a projector's file of as many batches looks the same: batches
of equal size one after the other, a twentieth of the calls in vain, a minute between starts.
"""

import sqlite3
from pathlib import Path

import duckdb

from millstream.domain.view import batch_view
from millstream.testing.events import Script
from millstream_projector.opening import open_store

FAR = 2**62
CHUNK = 500_000
MODELS = 6
TOPICS = 40
TEMPLATE_ID = "batch_1767225600_00000001"

_BATCH_ID = "printf('batch_%d_%08x', 1767225600 + {b} * 6, {b})"
_AT = "TIMESTAMP '2026-01-01' + to_microseconds({b} * 6000000 + {o} * 59000)"
_STATE = (
    "CASE WHEN {b} % 50 = 0 THEN 'stopped' WHEN {b} % 31 = 0 THEN 'failed' ELSE 'completed' END"
)
_CALL = """
  ({b}::BIGINT) AS batch, {o} AS slot, {seq}::BIGINT AS seq, {at} AS stored_at,
  {batch_id} AS batch_id, ({o} // 4)::BIGINT AS slice_index, {o}::INTEGER AS slot_, 1 AS attempt,
  'node-' || ({o} % 4) AS node, 'Topic ' || (hash({seq}) % 40) AS topic,
  'Area ' || (hash({seq}) % 8) AS area,
  ['basic','intermediate','advanced'][1 + (hash({seq}, 1) % 3)::BIGINT] AS difficulty,
  ['case','essay','quiz','dialogue'][1 + (hash({seq}, 2) % 4)::BIGINT] AS sample_type,
  'provider/model-' || ({b} % 6) AS model, 'provider-' || ({b} % 3) AS provider,
  'route.' || left(md5(({b} % 6)::VARCHAR), 24) AS route,
  (100 + hash({seq}, 3) % 200)::BIGINT AS tokens_in,
  (150 + hash({seq}, 4) % 400)::BIGINT AS tokens_out,
  (2000 + hash({seq}, 5) % 9000)::BIGINT AS cost_nano_usd,
  (200 + hash({seq}, 6) % 4000)::DOUBLE AS latency_ms,
  (50 + hash({seq}, 7) % 300)::DOUBLE AS first_token_ms,
  NULL::VARCHAR AS request_id, NULL::VARCHAR AS prompt_hash
"""
_WORDS = (
    "the court held that a party who",
    "had not performed the contract could",
    "claim damages only where notice",
    "was given before the delivery and",
    "the goods were still unpaid at that",
    "moment which the seller must prove",
    "unless the buyer has acted in bad",
    "faith or has waived the objection",
)


def _content(seq: str) -> str:
    words = "[" + ", ".join(f"'{word}'" for word in _WORDS) + "]"
    picked = " || ' ' || ".join(
        f"{words}[1 + (hash({seq}, {10 + n}) % 8)::BIGINT]" for n in range(12)
    )
    return (
        f"'{{\"question\":\"Question ' || {seq} || ' of the law\",' ||"
        f" '\"answer\":\"' || {picked} || '\"}}'"
    )


def stride_of(batches: int, samples: int) -> int:
    """Return how many sequences a batch takes: its calls, its start, a claim and its end."""
    per = samples // batches
    return per + per // 20 + 3


def fill(directory: Path, *, stream: str, batches: int, samples: int) -> Path:
    """Make a read model of so many batches and samples at ``directory``; return its file.

    It is that of the stream made at ``stream``, and its checkpoint is at the last row.
    """
    store = open_store(directory, stream=stream, last_sequence=FAR)
    connection = store.reader()
    per = samples // batches
    stride = stride_of(batches, samples)
    connection.execute("CREATE TEMP TABLE template AS SELECT ? AS view", [_template()])
    for start in range(0, batches, max(1, CHUNK // stride)):
        stop = min(batches, start + max(1, CHUNK // stride))
        _fill_calls(connection, start, stop, per, stride)
    _fill_batches(connection, batches, per, stride)
    connection.execute("DROP TABLE template")
    connection.execute("UPDATE checkpoint SET seq = ?", [batches * stride])
    connection.close()
    store.finish()
    return store.path


def _template() -> str:
    """Return the view of a completed batch as JSON, to be changed in a few places."""
    return batch_view(Script(batch_id=TEMPLATE_ID).run().state).model_dump_json()


def _fill_calls(
    connection: duckdb.DuckDBPyConnection, start: int, stop: int, per: int, stride: int
) -> None:
    def rows(offset: str, count: int, first: int) -> str:
        seq = f"(b * {stride} + {first} + o)"
        call = _CALL.format(
            b="b",
            o=offset,
            seq=seq,
            at=_AT.format(b="b", o=offset),
            batch_id=_BATCH_ID.format(b="b"),
        )
        return (
            f"(SELECT {call} FROM range({start}, {stop}) AS batches_(b),"  # noqa: S608
            f" range({count}) AS slots(o) ORDER BY b, o)"
        )

    place = "seq, stored_at, batch_id"
    called = (
        "slice_index, slot_, attempt, node, topic, area, difficulty, sample_type, model, provider,"
        " route, tokens_in, tokens_out, cost_nano_usd, latency_ms, first_token_ms, request_id,"
        " prompt_hash"
    )
    connection.execute(
        f"INSERT INTO samples SELECT {place}, {called}, 'stop', {_content('seq')}"  # noqa: S608
        f" FROM {rows('o', per, 3)}"
    )
    connection.execute(
        f"INSERT INTO attempts SELECT {place}, 'attempt_failed', {called}, NULL,"  # noqa: S608
        " ['timeout','server','rate_limit'][1 + (hash(seq) % 3)::BIGINT], NULL,"
        " 'HTTP 50' || (hash(seq) % 4) || ' from request ' || seq || ' after ' ||"
        " (hash(seq) % 900) || ' ms', NULL, 500 + (hash(seq) % 4)::INTEGER"
        f" FROM {rows('o * 20', per // 20, 3 + per)}"
    )


def _fill_batches(
    connection: duckdb.DuckDBPyConnection, batches: int, per: int, stride: int
) -> None:
    end = f"(b * {stride} + {stride})"
    ended = _AT.format(b="b", o=per)
    connection.execute(
        "INSERT INTO events"  # noqa: S608
        f" SELECT b * {stride} + 1, {_AT.format(b='b', o=0)}, {_BATCH_ID.format(b='b')},"
        f" 'mill', 'batch.started.v1', '{{}}' FROM range({batches}) AS numbers(b)"
        f" UNION ALL SELECT {end}, {ended}, {_BATCH_ID.format(b='b')}, 'mill',"
        f" 'batch.' || {_STATE.format(b='b')} || '.v1', '{{}}'"
        f" FROM range({batches}) AS numbers(b) ORDER BY 1"
    )
    connection.execute(
        f"""INSERT INTO batches
        SELECT id, first_seq, begun, state, state,
          'provider/model-' || (b % {MODELS}), 'provider-' || (b % 3), 'recipe-' || (b % 5),
          CASE WHEN b % 3 = 0 THEN 'Area ' || (b % 8) || ' - Topic ' || (b % {TOPICS}) END,
          b % 997 = 0, {per}, {per}, 0, 0, 0, {per} * 200, {per} * 350,
          {per} * (2000 + hash(b) % 9000)::BIGINT, NULL, {end}, ended,
          first_seq + 2, begun + to_milliseconds((300 + hash(b) % 9000)::BIGINT),
          'provider/model-' || (b % {MODELS}), 'provider-' || (b % 3),
          '{{"answer": [{per}, 9000], "question": [{per}, 2000]}}', NULL,
          replace(replace(replace(replace(view, '{TEMPLATE_ID}', id),
            '"state":"completed"', '"state":"' || state || '"'),
            '"model":"simulated/fast"', '"model":"provider/model-' || (b % {MODELS}) || '"'),
            '"sequence":', '"sequence":' || {end} || ',"was":')
        FROM (SELECT b, {_BATCH_ID.format(b="b")} AS id, b * {stride} + 1 AS first_seq,
            {_AT.format(b="b", o=0)} AS begun, {ended} AS ended, {_STATE.format(b="b")} AS state
            FROM range({batches}) AS numbers(b)), template ORDER BY b"""  # noqa: S608
    )


_SQLITE_INDEXES = (
    "CREATE INDEX by_start ON batches (started_seq)",
    "CREATE INDEX by_model ON batches (model, started_seq)",
    "CREATE INDEX by_state ON batches (state, started_seq)",
    "CREATE INDEX by_stuck ON batches (is_stuck)",
    "CREATE INDEX samples_of ON samples (batch_id, seq)",
    "CREATE INDEX samples_at ON samples (stored_at)",
)
"""Those that people would make for these questions."""


def copy_to_sqlite(source: Path, target: Path) -> None:
    """Write the same rows, without what no question reads, to a SQLite file at ``target``."""
    rows = duckdb.connect(str(source), read_only=True)
    database = sqlite3.connect(target)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    for table, columns in (
        ("batches", "batch_id, started_seq, state, model, provider, recipe, topic, is_stuck, view"),
        (
            "samples",
            (
                "seq, stored_at::VARCHAR AS stored_at, batch_id, slot, topic, area, difficulty,"
                " sample_type, model, provider, tokens_in, tokens_out, cost_nano_usd, latency_ms,"
                " content"
            ),
        ),
    ):
        result = rows.execute(f"SELECT {columns} FROM {table} ORDER BY 1")  # noqa: S608
        names = [column[0] for column in result.description or ()]
        marks = ", ".join("?" * len(names))
        database.execute(f"CREATE TABLE {table} ({', '.join(names)})")
        while chunk := result.fetchmany(20_000):
            database.executemany(f"INSERT INTO {table} VALUES ({marks})", chunk)  # noqa: S608
    for index in _SQLITE_INDEXES:
        database.execute(index)
    database.execute("ANALYZE")
    database.commit()
    database.close()
    rows.close()
