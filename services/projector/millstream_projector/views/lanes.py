"""A batch's events along time, in lanes: how many of each kind in each of some 200 buckets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import orjson

from millstream_projector.views.paging import of_batch
from millstream_projector.views.samples import as_utc
from millstream_schemas.lanes import LaneKind, LanesQuery
from millstream_schemas.views import FINAL_STATES

BUCKETS_MOST = 200
_MINUTE, _HOUR, _DAY = 60_000, 3_600_000, 86_400_000
BUCKETS_MS: tuple[int, ...] = (
    *(digit * 10**power for power in range(4) for digit in (1, 2, 5)),
    *(10_000, 15_000, 30_000),
    *(count * _MINUTE for count in (1, 2, 5, 10, 15, 30)),
    *(count * _HOUR for count in (1, 2, 3, 6, 12)),
    *(count * _DAY for count in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
)
"""Buckets begin where the batch does and only ever get coarser, so that a live batch's hold."""

KINDS: dict[str, LaneKind] = {
    "made": "made",
    "attempt_failed": "lost",
    "rejected": "lost",
    "failed": "failed",
    "abandoned": "abandoned",
    "uncounted": "late",
    "slice.claimed.v1": "claimed",
    "rescued": "rescued",
    "slice.released.v1": "released",
    "slice.slot_on_trial.v1": "trial",
    "slice.closed.v1": "closed",
    "batch.started.v1": "command",
    "batch.paused.v1": "command",
    "batch.resumed.v1": "command",
    "batch.priority_changed.v1": "command",
    "batch.stop_requested.v1": "stop",
    "batch.stopped.v1": "stop",
    "batch.completed.v1": "stop",
    "batch.failed.v1": "stop",
}
"""Of what the query calls a kind; what is none of these is a note."""

_SEEN = (
    "SELECT stored_at, seq, {lane_of_call}, 'made' AS kind FROM samples WHERE batch_id = $id"
    " UNION ALL SELECT stored_at, seq, {lane_of_call}, kind FROM attempts WHERE batch_id = $id"
    " UNION ALL SELECT stored_at, seq, {lane_of_event},"
    " CASE WHEN payload->>'$.rescue_of' IS NULL THEN type ELSE 'rescued' END"
    " FROM events WHERE batch_id = $id AND type <> 'slice.calls_announced.v1'"
)
_OF_CALL = {"node": "node AS name, NULL AS provider", "model": "model AS name, provider"}
_OF_EVENT = {
    "node": "CASE WHEN (type LIKE 'slice.%' OR type LIKE 'route.%')"
    " AND payload->>'$.actor.kind' = 'node' THEN payload->>'$.actor.id' END, NULL",
    "model": "CASE WHEN type LIKE 'route.%' THEN payload->>'$.model' END, NULL",
}


@dataclass(slots=True)
class _Lane:
    first: datetime
    last: datetime
    first_seq: int
    events: int = 0
    marks: dict[str, dict[int, tuple[int, int]]] = field(default_factory=dict)

    def take(self, kind: str, bucket: int, count: int, times: Sequence[datetime], seq: int) -> None:
        """Add ``count`` events of a kind; ``times`` are the first's and the last's."""
        self.first, self.last = min(self.first, times[0]), max(self.last, times[1])
        self.first_seq = min(self.first_seq, seq)
        self.events += count
        marks = self.marks.setdefault(kind, {})
        known, known_seq = marks.get(bucket, (0, seq))
        marks[bucket] = (known + count, min(known_seq, seq))

    def body(self, name: str | None, provider: str | None) -> dict[str, Any]:
        """Return the body of Lane."""
        return {
            "name": name,
            "provider": provider,
            "first": as_utc(self.first),
            "last": as_utc(self.last),
            "marks": {
                kind: [(bucket, *found) for bucket, found in sorted(marks.items())]
                for kind, marks in self.marks.items()
            },
        }


def lanes(
    connection: duckdb.DuckDBPyConnection, request: LanesQuery, most_bytes: int, at: datetime
) -> dict[str, Any]:
    """Return the body of Lanes, as of the moment ``at``.

    Raises:
        RefusedError: no such batch was ever started.
    """
    (state,) = of_batch(connection, request.batch_id, "state")
    seen = _SEEN.format(lane_of_call=_OF_CALL[request.by], lane_of_event=_OF_EVENT[request.by])
    values = {"id": request.batch_id}
    start, last = connection.execute(
        f"SELECT min(stored_at), max(stored_at) FROM ({seen})",  # noqa: S608
        values,
    ).fetchall()[0]
    end = last.replace(tzinfo=UTC)
    if state not in FINAL_STATES:
        end = max(end, at)
    bucket_ms = _bucket_ms(end - start.replace(tzinfo=UTC))
    rows = connection.execute(
        "SELECT name, provider, kind,"  # noqa: S608
        f" (epoch_us(stored_at) - epoch_us($start)) // {bucket_ms * 1000} AS bucket, count(*),"
        f" min(stored_at), max(stored_at), min(seq) FROM ({seen}) GROUP BY ALL",
        values | {"start": start},
    ).fetchall()
    shown, left_out = _fitting(_by_lane(rows), request.limit, most_bytes)
    return {
        "batch_id": request.batch_id,
        "by": request.by,
        "start": as_utc(start),
        "end": end,
        "bucket_ms": bucket_ms,
        "lanes": shown,
        "left_out": left_out,
    }


def _bucket_ms(span: timedelta) -> int:
    least = span.total_seconds() * 1000 / BUCKETS_MOST
    return next((size for size in BUCKETS_MS if size >= least), BUCKETS_MS[-1])


def _by_lane(rows: Sequence[Any]) -> dict[tuple[str | None, str | None], _Lane]:
    found: dict[tuple[str | None, str | None], _Lane] = {}
    # Notes of a route name its model alone: they come after the lanes that they may join.
    for name, provider, kind, bucket, count, first, last, seq in sorted(
        rows, key=lambda row: (row[1] is None, row[7])
    ):
        joined = next((key for key in found if key[0] == name), (name, provider))
        key = joined if provider is None else (name, provider)
        lane = found.setdefault(key, _Lane(first, last, seq))
        lane.take(KINDS.get(kind, "note"), bucket, count, (first, last), seq)
    return found


def _fitting(
    found: dict[tuple[str | None, str | None], _Lane], most: int, most_bytes: int
) -> tuple[list[orjson.Fragment], int]:
    """Return the lanes that an answer holds, and how many it does not."""
    ranked = sorted(found.items(), key=lambda item: (item[0][0] is not None, -item[1].events))
    kept: list[tuple[tuple[bool, int], bytes]] = []
    room = most_bytes
    for (name, provider), lane in ranked[:most]:
        body = orjson.dumps(lane.body(name, provider))
        room -= len(body) + 1
        if room < 0:
            break
        kept.append(((name is not None, lane.first_seq), body))
    return [orjson.Fragment(body) for _, body in sorted(kept)], len(found) - len(kept)
