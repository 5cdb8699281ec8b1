"""Which samples an export holds: those of a batch or a dataset, pinned to a position in the log.

Everything that is said about them follows from rows up to the pin alone, so that it is the same
whenever it is asked for, whatever came later; erased samples are the one exception.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

import duckdb

from millstream.domain.recorded import microseconds
from millstream.eventlog.stored import Stored, decode
from millstream_projector.changes import as_json
from millstream_projector.views.paging import RefusedError, no_such_batch, one
from millstream_projector.views.sums import exact_sum
from millstream_schemas.control import BatchStarted
from millstream_schemas.exports import CardBatch, CardRoute, ExportRequest
from millstream_schemas.redactions import REDACTED_CONTENT

FINAL_TYPES = ("batch.completed.v1", "batch.stopped.v1", "batch.failed.v1")
_KINDS = {"integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}
"""JSON Schema's types as DuckDB's; anything else is text, as it stands in the JSON."""
_FITS = {
    "BIGINT": ("BIGINT", "UBIGINT"),
    "DOUBLE": ("BIGINT", "UBIGINT", "DOUBLE"),
    "BOOLEAN": ("BOOLEAN",),
}
_AXES = ("model", "provider", "topic", "difficulty", "sample_type")


@dataclass(slots=True)
class Selection:
    """The samples of an export; ``where`` is an SQL condition on the table ``samples``.

    ``fields`` are the names of the content's fields with their DuckDB types, in their order.
    """

    id: str
    dataset_id: str
    stream: str
    since: int
    at_seq: int
    batches: list[CardBatch]
    where: str
    total: int = 0
    redacted: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    sums: dict[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, str]:
        """Each field's column: names of columns must differ in more than their case."""
        columns: dict[str, str] = {}
        for name in self.fields:
            columns[name] = _unlike(name, columns.values())
        return columns

    @property
    def provenance(self) -> str:
        """The name of the column that says whence a sample is, which no field has."""
        return _unlike("provenance", self.columns.values())


def select(connection: duckdb.DuckDBPyConnection, request: ExportRequest) -> Selection:
    """Return what ``request`` asks for; a table ``wanted`` in memory then holds its batches.

    Raises:
        RefusedError: there is no such batch at the pin, or the range is none.
        duckdb.Error: the read model can't be read.
    """
    as_of, stream = one(connection, "SELECT seq, stream FROM checkpoint")
    at_seq = as_of if request.at_seq is None else request.at_seq
    if at_seq > as_of:
        raise RefusedError(
            "invalid", f"at_seq={at_seq} lies beyond {as_of}, where the read model ends"
        )
    if request.since > at_seq:
        raise RefusedError(
            "invalid", f"since={request.since} lies beyond at_seq={at_seq}; give an earlier one"
        )
    started = _started(connection, request, at_seq)
    connection.execute("CREATE TABLE memory.wanted (batch_id VARCHAR)")
    batch_ids = [event.batch_id for _, event in started]
    connection.execute("INSERT INTO memory.wanted SELECT unnest(?::VARCHAR[])", [batch_ids])
    mark = as_json(REDACTED_CONTENT).replace("'", "''")
    is_of_them = "IN (SELECT batch_id FROM memory.wanted)"
    if len(batch_ids) == 1:  # then minima and maxima of row groups help
        is_of_them = "= '" + batch_ids[0].replace("'", "''") + "'"
    selection = Selection(
        id=request.id,
        dataset_id=started[0][1].dataset_id,
        stream=stream,
        since=request.since,
        at_seq=at_seq,
        batches=[_card_batch(stored, event) for stored, event in started],
        where=f"seq > {max(request.since, started[0][0].sequence)} AND seq <= {at_seq}"
        f" AND batch_id {is_of_them}",
    )
    _count(connection, selection, mark)
    selection.where += f" AND content <> '{mark}'"
    recipes = [event.spec.recipe.recipe.output for _, event in started]
    selection.fields = _fields(connection, selection.where, recipes)
    return selection


def _started(
    connection: duckdb.DuckDBPyConnection, request: ExportRequest, at_seq: int
) -> list[tuple[Stored, BatchStarted]]:
    """Return how the batches began, in the order of the log."""
    rows = connection.execute(
        "SELECT seq, stored_at, subject, payload FROM events"
        " WHERE type = 'batch.started.v1' AND seq <= $at AND (batch_id = $id"
        " OR contains(payload, $id) AND payload->>'dataset_id' = $id) ORDER BY seq",
        {"at": at_seq, "id": request.id},
    ).fetchall()
    found: dict[str, tuple[Stored, BatchStarted]] = {}
    for seq, stored_at, subject, payload in rows:
        stored = Stored(seq, microseconds(stored_at.replace(tzinfo=UTC)), subject, payload.encode())
        recorded = decode(stored)
        if recorded is not None and isinstance(recorded.event, BatchStarted):
            found.setdefault(recorded.event.batch_id, (stored, recorded.event))
    whole = [entry for entry in found.values() if entry[1].dataset_id == request.id]
    own = [entry for entry in found.values() if entry[1].batch_id == request.id]
    chosen = own if request.is_one_batch or not whole else whole
    if not chosen:
        if request.at_seq is None:
            raise no_such_batch(request.id)
        raise RefusedError(
            "not_found", f"id={request.id[:80]!r} is of no batch or dataset at sequence {at_seq}"
        )
    return chosen


def _card_batch(stored: Stored, event: BatchStarted) -> CardBatch:
    spec = event.spec
    recipe = spec.recipe.recipe
    filters = {
        name: value
        for name in ("topic", "difficulty", "sample_type", "instruction", "smart_mode")
        if (value := getattr(spec, name))
    }
    if spec.quotas is not None:
        filters["quotas"] = [quota.model_dump() for quota in spec.quotas]
    return CardBatch(
        batch_id=event.batch_id,
        parent_id=event.parent_id,
        started_sequence=stored.sequence,
        started_at=stored.stored_at,
        recipe=recipe.name,
        recipe_version=recipe.version,
        recipe_hash=spec.recipe.content_hash,
        licence=recipe.licence,
        model=spec.model,
        routes=tuple(
            CardRoute(
                model=route.model,
                provider=route.provider,
                litellm_model=route.litellm_model,
                price=route.price,
            )
            for route in spec.routes
        ),
        target=spec.target,
        seed=spec.seed,
        plan_version=spec.plan_version,
        filters=filters,
    )


def _count(connection: duckdb.DuckDBPyConnection, selection: Selection, mark: str) -> None:
    """Fill in how many samples there are, of what kinds, and what they took."""
    where = f"{selection.where} AND content <> '{mark}'"
    total, first, last, tokens_in, tokens_out, cost, priced, selection.redacted = one(
        connection,
        "SELECT count(*) FILTER (kept), min(seq) FILTER (kept), max(seq) FILTER (kept),"  # noqa: S608
        f" {exact_sum('tokens_in', 'kept')}, {exact_sum('tokens_out', 'kept')},"
        f" {exact_sum('cost_nano_usd', 'kept')}, count(cost_nano_usd) FILTER (kept),"
        " count(*) FILTER (NOT kept)"
        f" FROM (SELECT *, content <> '{mark}' AS kept FROM samples WHERE {selection.where})",
    )
    selection.total = total
    selection.sums = {
        "first_sequence": first,
        "last_sequence": last,
        "tokens_in": tokens_in or 0,
        "tokens_out": tokens_out or 0,
        "cost_nano_usd": cost if total and priced == total else None,
    }
    for axis in _AXES:
        selection.counts[axis] = _tally(connection, axis, where)
    samples = _tally(connection, "batch_id", where)
    outcomes = dict(
        connection.execute(
            "SELECT batch_id, type FROM events WHERE list_contains(?, type) AND seq <= ?"
            " AND batch_id IN (SELECT batch_id FROM memory.wanted) ORDER BY seq",
            [list(FINAL_TYPES), selection.at_seq],
        ).fetchall()
    )
    selection.batches = [
        batch.model_copy(
            update={
                "samples": samples.get(batch.batch_id, 0),
                "outcome": outcomes.get(batch.batch_id),
            }
        )
        for batch in selection.batches
    ]


def _tally(connection: duckdb.DuckDBPyConnection, column: str, where: str) -> dict[str, int]:
    return dict(
        connection.execute(
            f"SELECT coalesce({column}, ''), count(*) FROM samples WHERE {where}"  # noqa: S608
            " GROUP BY 1 ORDER BY 1"
        ).fetchall()
    )


def _fields(
    connection: duckdb.DuckDBPyConnection, where: str, outputs: Sequence[dict[str, Any]]
) -> dict[str, str]:
    """Return the fields that the samples have: the recipes' in their order, then any others."""
    found = {
        name
        for (name,) in connection.execute(
            f"SELECT DISTINCT unnest(json_keys(content)) FROM samples WHERE {where}"  # noqa: S608
        ).fetchall()
    }
    declared: dict[str, set[str]] = {}
    for output in outputs:
        for name, kind in output.get("properties", {}).items():
            declared.setdefault(name, set()).add(_KINDS.get(str(kind.get("type")), "VARCHAR"))
    fields: dict[str, str] = {}
    for name in [*declared, *sorted(found - declared.keys())]:
        kinds = declared.get(name, {"VARCHAR"})
        kind = kinds.pop() if len(kinds) == 1 else "VARCHAR"
        is_kept = kind == "VARCHAR" or _fits(connection, where, name, kind)
        fields[name] = kind if is_kept else "VARCHAR"
    return fields


def _fits(connection: duckdb.DuckDBPyConnection, where: str, name: str, kind: str) -> bool:
    """Tell whether no value of a field would be lost as ``kind``."""
    row = one(
        connection,
        f"SELECT count(*) FROM samples WHERE {where}"  # noqa: S608
        f" AND content->>{pointer(name)} IS NOT NULL"
        f" AND (NOT list_contains(?, json_type(content, {pointer(name)}))"
        f" OR TRY_CAST(content->>{pointer(name)} AS {kind}) IS NULL)",
        [list(_FITS[kind])],
    )
    return bool(row[0] == 0)


def _unlike(name: str, taken: Iterable[str]) -> str:
    """Return ``name``, with underscores at its end if it is taken."""
    lower = {other.lower() for other in taken}
    while name.lower() in lower:
        name += "_"
    return name


def pointer(name: str) -> str:
    """Return the JSON pointer to a field as an SQL text."""
    escaped = name.replace("~", "~0").replace("/", "~1").replace("'", "''")
    return f"'/{escaped}'"
