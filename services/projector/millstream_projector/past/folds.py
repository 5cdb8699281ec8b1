"""The folds of batches at a sequence of the past, made from the tables' rows.

Rows tell what happened up to any sequence, and the state of a slice as often as a micro-batch
ended. What happened to a slice between such an end and the sequence asked for is read from the
log: its last event there carries the whole state. That holds for a batch whose log breaks no
rule; of any other, and wherever rows and slices disagree, all events are folded again.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import duckdb

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState, SliceTail
from millstream.domain.recorded import Recorded
from millstream.eventlog.stored import decode
from millstream_projector.heads import summed
from millstream_projector.past.log import PastLog
from millstream_projector.views.paging import RefusedError
from millstream_schemas import subjects
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.errors import ErrorInfo
from millstream_schemas.events import parse
from millstream_schemas.slices import SliceEvent, SliceState

Place = tuple[str, int]
"""A slice: its batch and its index."""


REOPENED_MOST = 5_000
"""Batches that are folded anew for one answer: about a second for each 2,000."""


class _Facts(NamedTuple):
    """What rows tell of a batch; the last error is (slice index, slot, message)."""

    sequence: int
    last_progress_at: datetime | None
    last_error: tuple[int, int, str] | None


@dataclass(slots=True)
class _Frame:
    """A batch without its slices; ``bound`` is the last sequence at which these could change."""

    state: BatchState
    bound: int
    held_up_since: int = 0


def folds_at(
    connection: duckdb.DuckDBPyConnection, sequence: int, batch_id: str | None, log: PastLog
) -> list[BatchState]:
    """Return the folds at ``sequence`` of the batches whose rows tell of a later moment.

    Args:
        connection: In a read transaction.
        sequence: Nothing after it counts.
        batch_id: Only this batch, None for all that were started by then.
        log: Where to read what rows don't tell.

    Raises:
        LogError: the log does not answer.
        RefusedError: so many were live then that it would take too long.
    """
    rows = connection.execute(
        "SELECT batch_id, coalesce((head ->> '$.anomalies')::BIGINT, 0), started_seq FROM batches"
        " WHERE started_seq <= ? AND seq > ? AND (?::VARCHAR IS NULL OR batch_id = ?)",
        [sequence, sequence, batch_id, batch_id],
    ).fetchall()
    if len(rows) > REOPENED_MOST:
        raise RefusedError(
            "invalid",
            f"{len(rows):,} batches that were live at {sequence} have changed since, more than"
            f" {REOPENED_MOST:,}: ask for one batch, or for another moment",
        )
    found: dict[str, BatchState] = {}
    sound = [name for name, anomalies, _ in rows if not anomalies]
    if sound:
        first = min(start for _, _, start in rows)
        found = _Rows(connection, sequence, sound, first=first).folds(log)
    return [found.get(name) or _whole(log, name, sequence) for name, _, _ in rows]


def _whole(log: PastLog, batch_id: str, until: int) -> BatchState:
    state = BatchState(batch_id)
    for stored in log.whole(batch_id, until):
        recorded = decode(stored)
        if recorded is not None:
            state = apply(state, recorded)
    return state


class _Rows:
    """The folds at ``until`` of batches without anomalies, whose first event is ``first``."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        until: int,
        batch_ids: Sequence[str],
        *,
        first: int,
    ) -> None:
        self._connection = connection
        self._until = until
        self._first = first
        self._frames = self._read_frames(batch_ids)

    def folds(self, log: PastLog) -> dict[str, BatchState]:
        """Return the folds by batch, without those that rows and slices disagree about."""
        tails = self._read_tails()
        last, errors = self._read_slices()
        doubtful = self._read_gaps(tails, last, log)
        by_batch: dict[str, dict[int, SliceTail]] = defaultdict(dict)
        for (batch_id, index), tail in tails.items():
            by_batch[batch_id][index] = tail
            if batch_id not in doubtful and not _agrees(tail.state, errors.get((batch_id, index))):
                doubtful.add(batch_id)
        facts = self._read_facts()
        found: dict[str, BatchState] = {}
        for batch_id, frame in self._frames.items():
            known = facts[batch_id]
            own = by_batch[batch_id]
            last_error, is_sound = _last_error(known, own)
            if batch_id in doubtful or not is_sound:
                continue
            found[batch_id] = self._filled(frame, known, own, last_error)
        return found

    def _read_frames(self, batch_ids: Sequence[str]) -> dict[str, _Frame]:
        """Fold the events that are no slice's; a reader of these alone has to trust them."""
        frames = {name: _Frame(BatchState(name), self._until) for name in batch_ids}
        rows = self._connection.execute(
            "SELECT batch_id, seq, stored_at, payload FROM events WHERE seq <= ?"
            " AND type NOT LIKE 'slice.%' AND batch_id IN (SELECT unnest(?::VARCHAR[]))"
            " ORDER BY seq",
            [self._until, list(batch_ids)],
        ).fetchall()
        for batch_id, sequence, stored_at, payload in rows:
            frame = frames[batch_id]
            before = frame.state
            event = parse(payload.encode())
            recorded: Recorded[BatchEvent] = Recorded(sequence, _utc(stored_at), event)
            frame.state = apply(before, recorded, trusted=True)
            if frame.state.held_up is not before.held_up:
                frame.held_up_since = sequence
            if frame.state.is_final and not before.is_final:
                frame.bound = sequence
        return frames

    def _asked(self) -> list[Any]:
        return [list(self._frames), [frame.bound for frame in self._frames.values()]]

    def _read_tails(self) -> dict[Place, SliceTail]:
        """Return the slices as the last micro-batches up to then have left them."""
        rows = self._connection.execute(
            "SELECT batch_id, slice_index, max(seq), arg_max(state, seq) FROM slice_states"
            " WHERE seq BETWEEN ? AND ? AND batch_id IN (SELECT unnest(?::VARCHAR[]))"
            " GROUP BY batch_id, slice_index",
            [self._first, self._until, list(self._frames)],
        ).fetchall()
        return {
            (batch_id, index): SliceTail(sequence, SliceState.model_validate_json(state))
            for batch_id, index, sequence, state in rows
        }

    def _read_slices(self) -> tuple[dict[Place, int], dict[Place, int]]:
        """Return each slice's last sequence within the bound, and its failed attempts."""
        rows = self._connection.execute(
            f"{_MOVES} SELECT batch_id, slice_index, max(seq),"  # noqa: S608
            " count(*) FILTER (kind IN ('attempt_failed', 'rejected'))"
            " FROM moves JOIN asked USING (batch_id) WHERE seq <= bound"
            " GROUP BY batch_id, slice_index",
            [*self._asked(), *[self._first, self._until] * 3],
        ).fetchall()
        last = {(batch_id, index): sequence for batch_id, index, sequence, _ in rows}
        return last, {(batch_id, index): errors for batch_id, index, _, errors in rows if errors}

    def _read_gaps(
        self, tails: dict[Place, SliceTail], last: Mapping[Place, int], log: PastLog
    ) -> set[str]:
        """Bring ``tails`` up to ``last`` from the log; return the batches where that fails."""
        wanted: dict[int, list[Place]] = defaultdict(list)
        for place, sequence in last.items():
            if place not in tails or tails[place].sequence < sequence:
                wanted[self._frames[place[0]].bound].append(place)
        doubtful: set[str] = set()
        for bound, places in sorted(wanted.items()):
            by_subject = {subjects.slice_(*place): place for place in places}
            missed = set(places)
            for stored in log.last_of(list(by_subject), bound):
                place = by_subject[stored.subject]
                if stored.sequence < last[place]:
                    continue  # its last event by then was erased
                missed.discard(place)
                recorded = decode(stored)
                event = recorded.event if recorded else None
                if not isinstance(event, SliceEvent) or (event.batch_id, event.slice) != place:
                    doubtful.add(place[0])
                else:
                    tails[place] = SliceTail(stored.sequence, event.after)
            doubtful |= {batch_id for batch_id, _ in missed}
        return doubtful

    def _read_facts(self) -> dict[str, _Facts]:
        rows = self._connection.execute(
            f"{_MOVES} SELECT batch_id, max(seq),"  # noqa: S608
            " arg_max(stored_at, seq) FILTER (seq <= bound AND kind NOT IN ('abandoned', '')),"
            " arg_max({'slice': slice_index, 'slot': slot, 'message': message}, seq)"
            " FILTER (seq <= bound AND kind IN ('attempt_failed', 'rejected'))"
            " FROM moves JOIN asked USING (batch_id) GROUP BY batch_id",
            [*self._asked(), *[self._first, self._until] * 3],
        ).fetchall()
        facts = {
            batch_id: _Facts(
                sequence,
                _utc(progress) if progress else None,
                (error["slice"], error["slot"], error["message"]) if error else None,
            )
            for batch_id, sequence, progress, error in rows
        }
        nothing = _Facts(0, None, None)
        return {batch_id: facts.get(batch_id, nothing) for batch_id in self._frames}

    def _filled(
        self,
        frame: _Frame,
        facts: _Facts,
        tails: Mapping[int, SliceTail],
        last_error: ErrorInfo | None,
    ) -> BatchState:
        return replace(
            frame.state,
            **summed(tails.items())._asdict(),
            sequence=max(frame.state.sequence, facts.sequence),
            last_progress_at=facts.last_progress_at,
            last_error=last_error,
            held_up=frame.state.held_up if self._is_held_up(frame) else None,
        )

    def _is_held_up(self, frame: _Frame) -> bool:
        """Tell whether no sample has shown since that the batch goes on."""
        held_up = frame.state.held_up
        if held_up is None:
            return False
        found = self._connection.execute(
            "SELECT 1 FROM (SELECT seq, stored_at FROM samples WHERE batch_id = $1"
            " UNION ALL SELECT seq, stored_at FROM attempts"
            " WHERE batch_id = $1 AND kind = 'uncounted')"
            " WHERE seq > $2 AND seq <= $3 AND stored_at > $4 LIMIT 1",
            [
                frame.state.batch_id,
                frame.held_up_since,
                frame.bound,
                held_up.until.astimezone(UTC).replace(tzinfo=None),
            ],
        ).fetchall()
        return not found


_MOVES = """
WITH asked AS (SELECT unnest(?::VARCHAR[]) AS batch_id, unnest(?::BIGINT[]) AS bound),
moves AS (
    SELECT batch_id, slice_index, seq, stored_at, slot, 'generated' AS kind, NULL AS message
    FROM samples WHERE seq BETWEEN ? AND ?
    UNION ALL SELECT batch_id, slice_index, seq, stored_at, slot, kind, message
    FROM attempts WHERE seq BETWEEN ? AND ?
    UNION ALL SELECT batch_id, (payload ->> '$.slice')::BIGINT, seq, stored_at, NULL, '', NULL
    FROM events WHERE seq BETWEEN ? AND ? AND type LIKE 'slice.%'
)"""
"""The events of slices; ``bound`` is the batch's. A kind of '' is of no call."""


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)


def _agrees(state: SliceState, errors: int | None) -> bool:
    """Tell whether a slice's tally of errors is that of its rows."""
    counts = state.errors.values()
    return sum(counts) == (errors or 0) and all(count > 0 for count in counts)


def _last_error(facts: _Facts, tails: Mapping[int, SliceTail]) -> tuple[ErrorInfo | None, bool]:
    """Return the latest error, and whether its row and its slice agree about it."""
    if facts.last_error is None:
        return None, True
    index, slot, message = facts.last_error
    error = tails[index].state.last_error if index in tails else None
    return error, error is not None and (error.slot, error.message) == (slot, message)
