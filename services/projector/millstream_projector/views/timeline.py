"""Statistics over time: what each model, or each provider, did in each second to day."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import duckdb

from millstream_projector.views.batch_figures import PERCENTILES, percentiles
from millstream_projector.views.by_batch import first_samples, unpriced_batches
from millstream_projector.views.paging import Filter, RefusedError, column_time, one
from millstream_projector.views.running import Buckets, running
from millstream_projector.views.samples import as_utc, started
from millstream_projector.views.sums import exact, exact_sum
from millstream_schemas import analysis

BUCKETS_MOST = 1_500
KEPT_BUCKETS_MOST = 20_000
ROW_BYTES = 420
"""Of a TimelineRow in an answer, at most."""
FILLING_LEAST_S = 5
"""The rate of a bucket that has just begun is over so long: clocks differ, and few calls say little
about the pace."""
Name = Literal["second", "minute", "hour", "day"]
_SECONDS: dict[Name, int] = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_AUTO: tuple[tuple[Name, int], ...] = (
    ("second", 3 * 60),
    ("minute", 3 * 3600),
    ("hour", 7 * 86400),
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_S = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)

Row = dict[str, Any]


def timeline(
    connection: duckdb.DuckDBPyConnection,
    request: analysis.TimelineQuery,
    most_bytes: int,
    at: datetime,
) -> dict[str, Any]:
    """Return the body of Timeline, as of the moment ``at``.

    Raises:
        RefusedError: the range makes no sense, or holds more buckets than an answer.
    """
    if request.batch_id is not None:
        started(connection, request.batch_id)
    begin, end = _range(connection, request)
    bucket = _bucket(request, begin, end)
    seconds = _SECONDS[bucket]
    numbers = range(0)
    if begin is not None and end is not None:
        numbers = range(_number(begin, seconds), -(-_micros(end) // (seconds * 1_000_000)))
    if len(numbers) > BUCKETS_MOST:
        raise RefusedError(
            "invalid",
            f"bucket={bucket!r} cuts the range into {len(numbers):,} pieces, more than"
            f" {BUCKETS_MOST:,}; give a larger bucket, or start and end closer together",
        )
    if end is not None and numbers.stop * seconds > _LAST_S:
        raise RefusedError(
            "invalid",
            f"end={end.isoformat()!r} has no whole {bucket} around it; give an earlier one",
        )
    # A single model's rows are the same either way.
    by: analysis.Split = request.by if request.model is None else "model"
    if request.batch_id is not None:
        found = _compute(connection, numbers, seconds, by, request.batch_id)
    else:
        found = _remembered(connection, numbers, seconds, by)
    filling = _filling(at, seconds)
    rows = [
        row if number not in filling else _rated(row, filling[number])
        for number in numbers
        for row in found.get(number, (0, []))[1]
        if request.model in {None, row["model"]} and request.provider in {None, row["provider"]}
    ]
    if by != request.by:
        rows = [{**row, "model": None} for row in rows]
    first = first_samples(connection, request, *_ends(numbers, seconds))
    if (len(rows) + len(first)) * ROW_BYTES > most_bytes:
        raise RefusedError(
            "invalid",
            f"bucket={bucket!r} gives {len(rows):,} rows, more than an answer holds; give a larger"
            " bucket, a model, or start and end closer together",
        )
    return {
        "bucket": bucket,
        "bucket_s": seconds,
        "start": _moment(numbers.start, seconds) if numbers else None,
        "end": _moment(numbers.stop, seconds) if numbers else None,
        "rows": rows,
        "first_samples": first,
        "unpriced_batches": unpriced_batches(connection, request, *_ends(numbers, seconds)),
    }


def _range(
    connection: duckdb.DuckDBPyConnection, request: analysis.TimelineQuery
) -> tuple[datetime | None, datetime | None]:
    """Return the range that is asked for, by default from the first to the last call."""
    begin, end = request.start, request.end
    if begin is None or end is None:
        where = Filter()
        if request.batch_id is not None:
            where.add("batch_id = ?", request.batch_id)
        first, last = one(
            connection,
            f"SELECT min(first), max(last) FROM (SELECT min(stored_at) AS first,"  # noqa: S608
            f" max(stored_at) AS last FROM samples WHERE {where} UNION ALL"
            f" SELECT min(stored_at), max(stored_at) FROM attempts WHERE {where})",
            where.values * 2,
        )
        if first is None:
            return None, None
        begin = begin or first.replace(tzinfo=UTC)
        end = end or last.replace(tzinfo=UTC) + timedelta(microseconds=1)
        if begin >= end and (request.start is None or request.end is None):
            return None, None  # nothing lies on that side
    if begin >= end:
        raise RefusedError(
            "invalid",
            f"start={begin.isoformat()!r} is not before end={end.isoformat()!r}; exchange them, or"
            " leave one out",
        )
    return begin, end


def _bucket(request: analysis.TimelineQuery, begin: datetime | None, end: datetime | None) -> Name:
    if request.bucket != "auto":
        return request.bucket
    span_s = (end - begin).total_seconds() if begin and end else 0.0
    # One batch may be over in seconds; what all batches did is told by the minute at the least.
    names = _AUTO if request.batch_id is not None else _AUTO[1:]
    return next((name for name, most_s in names if span_s <= most_s), "day")


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _number(moment: datetime, seconds: int) -> int:
    return _micros(moment) // (seconds * 1_000_000)


def _moment(number: int, seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=number * seconds)


def _ends(numbers: range, seconds: int) -> tuple[datetime, datetime]:
    """Return where these buckets begin and end, as columns have times."""
    begin, end = (column_time(_moment(n, seconds)) for n in (numbers.start, numbers.stop))
    return begin, end


def _remembered(
    connection: duckdb.DuckDBPyConnection, numbers: range, seconds: int, by: analysis.Split
) -> dict[int, tuple[int, list[Row]]]:
    """Return the buckets' rows; those to which nothing was added are not counted again."""
    known, as_of = running(connection)
    with known.lock:
        kept = known.buckets.setdefault((seconds, by), Buckets())
        is_newest = as_of >= kept.upto
        if is_newest:
            _forget_touched(connection, kept, as_of, seconds)
        # A reader whose moment is older than what is kept takes only what was there then.
        found = {
            number: kept.rows[number]
            for number in numbers
            if number in kept.rows and kept.rows[number][0] <= as_of
        }
    missing = [number for number in numbers if number not in found]
    if not missing:
        return found
    fresh = _compute(connection, range(missing[0], missing[-1] + 1), seconds, by)
    with known.lock:
        # Another reader may have gone on to a later moment: these rows would be stale by then.
        if is_newest and kept.upto == as_of:
            if len(kept.rows) + len(missing) > KEPT_BUCKETS_MOST:
                kept.rows.clear()
            for number in missing:
                kept.rows[number] = fresh.get(number, (0, []))
    return fresh | found


def _forget_touched(
    connection: duckdb.DuckDBPyConnection, kept: Buckets, as_of: int, seconds: int
) -> None:
    """Drop the buckets that got rows since, whatever order their times are in."""
    if as_of > kept.upto and kept.rows:
        first = one(
            connection,
            "SELECT min(first) FROM (SELECT min(stored_at) AS first FROM samples WHERE seq > ?"
            " UNION ALL SELECT min(stored_at) FROM attempts WHERE seq > ?)",
            [kept.upto, kept.upto],
        )[0]
        if first is not None:
            number = _number(first.replace(tzinfo=UTC), seconds)
            for touched in [one for one in kept.rows if one >= number]:
                del kept.rows[touched]
    kept.upto = as_of


def _filling(moment: datetime, seconds: int) -> dict[int, float]:
    """Return the bucket that was not over at ``moment``, and the time that its rates are over."""
    number = _number(moment, seconds)
    passed_s = (moment - _moment(number, seconds)).total_seconds()
    return {number: min(seconds, max(passed_s, FILLING_LEAST_S))}


def _rated(row: Row, over_s: float) -> Row:
    """Return the row with its rate over so many seconds of its bucket."""
    return {**row, "samples_per_s": round(row["samples"] / over_s, 4)}


_TOTALS = (
    f"count(*) AS calls, {exact_sum('tokens_in')} AS tokens_in,"
    f" {exact_sum('tokens_out')} AS tokens_out, {exact_sum('cost_nano_usd')} AS cost_nano_usd,"
    " max(seq) AS last"
)


def _compute(
    connection: duckdb.DuckDBPyConnection,
    numbers: range,
    seconds: int,
    by: analysis.Split,
    batch_id: str | None = None,
) -> dict[int, tuple[int, list[Row]]]:
    """Count the buckets: number -> (sequence of the last row in it, its rows)."""
    where = Filter()
    where.add("stored_at >= ? AND stored_at < ?", *_ends(numbers, seconds))
    if batch_id is not None:
        where.add("batch_id = ?", batch_id)
    number = f"epoch_us(stored_at) // {seconds * 1_000_000} AS number"
    group = f"{number}, {'model' if by == 'model' else 'NULL AS model'}, provider"
    made = connection.execute(
        f"SELECT {group}, {_TOTALS}, quantile_cont(latency_ms, {PERCENTILES})"  # noqa: S608
        f" FROM samples WHERE {where} GROUP BY ALL",
        where.values,
    ).fetchall()
    lost = connection.execute(
        f"SELECT {group}, {_TOTALS}, count(*) FILTER (kind IN ('attempt_failed', 'rejected')),"  # noqa: S608
        " count(*) FILTER (kind = 'failed')"
        f" FROM attempts WHERE {where} GROUP BY ALL",
        where.values,
    ).fetchall()
    return _joined(made, lost, seconds)


def _joined(
    made: Iterable[Sequence[Any]], lost: Iterable[Sequence[Any]], seconds: int
) -> dict[int, tuple[int, list[Row]]]:
    """Put samples and lost calls of the same bucket and line together."""
    samples = {tuple(row[:3]): row[3:] for row in made}
    attempts = {tuple(row[:3]): row[3:] for row in lost}
    none = (0, None, None, None, 0, None, 0)
    found: dict[int, tuple[int, list[Row]]] = {}
    for key in sorted(samples.keys() | attempts.keys()):
        good, bad = samples.get(key, none), attempts.get(key, none)
        last, rows = found.get(key[0], (0, []))
        found[key[0]] = (max(last, good[4], bad[4]), [*rows, _row(key, good, bad, seconds)])
    return found


def _row(key: Sequence[Any], good: Sequence[Any], bad: Sequence[Any], seconds: int) -> Row:
    number, model, provider = key
    made, failures, failed_slots = good[0], bad[5] or 0, bad[6]
    calls = made + bad[0] - failed_slots
    return {
        "start": as_utc(column_time(_moment(number, seconds))),
        "model": model,
        "provider": provider,
        "attempts": calls,
        "samples": made,
        "failures": failures,
        "failed_slots": failed_slots,
        "failure_ratio": round(failures / calls, 4) if calls else None,
        "samples_per_s": round(made / seconds, 4),
        "tokens_in": _sum(good[1], bad[1]),
        "tokens_out": _sum(good[2], bad[2]),
        "cost_nano_usd": _sum(good[3], bad[3]),
        "latency_ms": percentiles(good[5]),
    }


def _sum(first: int | None, second: int | None) -> int | None:
    """Add what is known; None when neither is."""
    return None if first is None and second is None else exact((first or 0) + (second or 0))
