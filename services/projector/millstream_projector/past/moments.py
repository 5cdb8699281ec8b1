"""Which sequence a question about the past means, and whether the projection has come to it."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import duckdb

from millstream.eventlog.log import EventLog
from millstream_projector.past.as_of import Past
from millstream_projector.past.log import WaitingLog
from millstream_projector.progress import Progress
from millstream_projector.views.paging import RefusedError, column_time
from millstream_schemas.envelope import Contract
from millstream_schemas.views import Query

ResultT = TypeVar("ResultT")
Read = Callable[[duckdb.DuckDBPyConnection], ResultT]

_PLACES = (
    "(SELECT seq, stored_at FROM samples UNION ALL SELECT seq, stored_at FROM attempts"
    " UNION ALL SELECT seq, stored_at FROM events)"
)


def sequence_at(connection: duckdb.DuckDBPyConnection, time: datetime) -> tuple[int, bool]:
    """Return the last event stored at or before ``time`` (0 for none), and whether any is later.

    Raises:
        RefusedError: the time has no form in UTC.
    """
    found, last = connection.execute(
        "SELECT coalesce(max(seq) FILTER (stored_at <= $1), 0), coalesce(max(seq), 0)"  # noqa: S608
        f" FROM {_PLACES}",
        [column_time(time, "at_time")],
    ).fetchall()[0]
    return found, last > found


async def reach(sequence: int, event_log: EventLog, progress: Progress, *, wait_s: float) -> None:
    """Wait until everything up to the ``at_seq`` of a question is folded.

    Raises:
        RefusedError: the log has not come to it, or the projection within ``wait_s``.
        LogError: the log does not answer.
    """
    if sequence <= progress.checkpoint:
        return
    end = (await event_log.head()).last
    if sequence > end:
        raise RefusedError(
            "invalid",
            f"at_seq={sequence} lies beyond the log's end, which is at {end}; leave it out"
            " for the present",
        )
    await _folded(sequence, f"at_seq={sequence}", progress, wait_s)


async def _folded(sequence: int, what: str, progress: Progress, wait_s: float) -> None:
    if not await progress.wait_for(sequence, wait_s):
        raise RefusedError(
            "behind",
            f"{what} is not folded yet: this projector is at {progress.checkpoint};"
            " ask again in a second",
        )


class Moments:
    """Finds the past that a question is about; ``find`` runs a read in a reading thread."""

    def __init__(
        self,
        event_log: EventLog,
        progress: Progress,
        find: Callable[[Read[tuple[int, bool]]], Awaitable[tuple[int, bool]]],
        *,
        wait_s: float,
    ) -> None:
        self._event_log = event_log
        self._progress = progress
        self._find = find
        self._wait_s = wait_s

    async def past(self, query: Contract) -> Past | None:
        """Return the moment that ``query`` is about, None for the present.

        Raises:
            RefusedError: two moments are given, the log has not come to it, or the projection.
            LogError: the log does not answer.
        """
        if not isinstance(query, Query) or not query.is_past:
            return None
        sequence = await self._sequence(query)
        return Past(sequence, WaitingLog(self._event_log, asyncio.get_running_loop()))

    async def _sequence(self, query: Query) -> int:
        if query.at_seq is not None and query.at_time is not None:
            raise RefusedError(
                "invalid",
                f"at_seq={query.at_seq} and at_time={query.at_time.isoformat()} are both given;"
                " leave one of them out",
            )
        if query.at_time is None:
            sequence = query.at_seq or 0
            await reach(sequence, self._event_log, self._progress, wait_s=self._wait_s)
            return sequence
        read = functools.partial(sequence_at, time=query.at_time)
        sequence, is_sure = await self._find(read)
        if is_sure:
            return sequence
        # Nothing later is folded yet: what the log holds beyond may still be of that time.
        end = (await self._event_log.head()).last
        await _folded(end, f"at_time={query.at_time}", self._progress, self._wait_s)
        return (await self._find(read))[0]
