"""The watchdog: looks at every live batch once a second and notes which are stuck, and why."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from millstream.domain.batch_state import BatchState
from millstream.domain.decide import Stamp
from millstream.errors import ConflictError, LogError
from millstream.eventlog.limited import LimitedBatches
from millstream.eventlog.log import EventLog
from millstream.eventlog.nodes import Nodes, by_log
from millstream.runtime.clock import boot_seconds, new_id
from millstream_projector.progress import Progress
from millstream_projector.projection import Projection
from millstream_projector.stuck.judge import Judge, Verdict
from millstream_schemas import notes, subjects
from millstream_schemas.envelope import Actor, BatchEvent
from millstream_schemas.notes import StuckFinding

log = structlog.get_logger()

TICK_S = 1.0
LAG_MOST_S = 5.0
"""Beyond this the projection sees the past, in which nothing may be called stuck."""
APPEND_BOUND_S = 3.0


class Watchdog:
    """Appends StuckDetected and StuckCleared behind the fence, so that two write one.

    What is silent is told by the log's time, whatever the wall clock says; ``steady`` tells seconds
    that never jump. ``alarm`` tells in words that the projection lags: then
    no batch is judged, and it is the system that has a problem.
    """

    def __init__(
        self,
        projection: Projection,
        progress: Progress,
        event_log: EventLog,
        nodes: Nodes,
        *,
        node: str,
        floor_s: float,
        lease_s: float = 10.0,
        steady: Callable[[], float] = boot_seconds,
    ) -> None:
        """Watch the batches of ``projection``.

        ``floor_s`` is the least time without progress, ``lease_s`` a slice's lease.
        """
        self.alarm = ""
        self._projection = projection
        self._progress = progress
        self._event_log = event_log
        self._nodes = nodes
        self._limited = LimitedBatches()
        self._node = node
        self._judge = Judge(floor_s=floor_s, lease_s=lease_s)
        self._jumps = event_log.time.jumps
        self._steady = steady

    async def watch(self, stop: asyncio.Event) -> None:
        """Look once a second until ``stop``."""
        async with self._limited.listening(self._event_log.connection):
            while not stop.is_set():
                await self.look()
                try:
                    async with asyncio.timeout(TICK_S):
                        await stop.wait()
                except TimeoutError:
                    continue

    async def look(self) -> list[BatchEvent]:
        """Look once at every live batch; return the notes that were appended.

        While the projection lags or the log is away nothing is judged, and what happened
        meanwhile is not held against a batch afterwards.
        """
        lag_s = self._progress.lag_s(self._steady())
        is_late = lag_s is not None and lag_s > LAG_MOST_S
        self.alarm = self._progress.lag_in_words(lag_s) if lag_s is not None and is_late else ""
        try:
            beats = [by_log(*heard) for heard in await self._nodes.heard()]
        except LogError as error:
            return self._suspend(str(error))
        if lag_s is None:
            return self._suspend("the end of the log is not known yet")
        if is_late:
            return self._suspend(self.alarm)
        if (jumps := self._event_log.time.jumps) != self._jumps:
            self._jumps = jumps  # the stamps of before can't be compared with what is now
            self._suspend("the log's clock was set")
        if not self._judge.is_watching:
            log.info("watchdog.watching")
        now = self._event_log.time.now()
        known = self._projection.snapshot
        written: list[BatchEvent] = []
        limited = self._limited.now()
        found = self._judge.look(known.live, known.latency_p95_s, beats, now, limited)
        for state, verdict in found:
            note = self._note(state, verdict, now)
            if await self._append(note, state):
                written.append(note)
        return written

    def _suspend(self, reason: str) -> list[BatchEvent]:
        if self._judge.is_watching:  # said once, not every second
            log.warning("watchdog.suspended", reason=reason)
        self._judge.suspend()
        return []

    def _note(self, state: BatchState, verdict: Verdict, now: datetime) -> BatchEvent:
        if isinstance(verdict, StuckFinding):
            return notes.StuckDetected(**self._envelope(state, now), finding=verdict)
        rule = state.stuck.rule if state.stuck else "no_progress"
        return notes.StuckCleared(**self._envelope(state, now), rule=rule)

    def _envelope(self, state: BatchState, now: datetime) -> dict[str, object]:
        stamp = Stamp(
            new_id=new_id,
            time=now,
            actor=Actor(kind="system", id="watchdog"),
            source=f"projector/{self._node}",
            causation_id=f"sequence:{state.sequence}",
        )
        return stamp.envelope(state.batch_id, subjects.note(state.batch_id))

    async def _append(self, note: BatchEvent, state: BatchState) -> bool:
        try:
            newest = await self._event_log.last(subjects.control(state.batch_id))
            if newest is not None and newest.sequence > state.control_sequence:
                return False  # a pause or a stop that is not folded yet: the next look knows it
            await self._event_log.append(note, expected=state.note_sequence, bound_s=APPEND_BOUND_S)
        except ConflictError:
            return False  # another watchdog, or another note: the fold will tell
        except LogError as error:
            log.warning("note.postponed", batch_id=state.batch_id, reason=str(error))
            return False
        log.info("note.appended", batch_id=state.batch_id, type=getattr(note, "type", ""))
        return True
