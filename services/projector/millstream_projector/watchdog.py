"""The watchdog: looks at every live batch once a second and notes which are stuck, and why."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from millstream.domain.batch import BatchState
from millstream.domain.decide import Stamp
from millstream.domain.stuck import Surroundings, find_stuck
from millstream.errors import ConflictError, LogError
from millstream.eventlog.log import EventLog
from millstream.eventlog.nodes import NodeBeat, Nodes
from millstream.runtime.clock import boot_seconds, new_id, utc_now
from millstream_projector.heads import Known
from millstream_projector.progress import Progress
from millstream_projector.projection import Projection
from millstream_schemas import notes, subjects
from millstream_schemas.envelope import Actor, BatchEvent

log = structlog.get_logger()

TICK_S = 1.0
LAG_MOST_S = 5.0
"""Beyond this the projection sees the past, in which nothing may be called stuck."""
APPEND_BOUND_S = 3.0


class Watchdog:
    """Appends StuckDetected and StuckCleared behind the fence, so that two write one.

    The clocks are arguments: ``clock`` tells the time that stream times are compared with,
    ``steady`` seconds that never jump.
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
        clock: Callable[[], datetime] = utc_now,
        steady: Callable[[], float] = boot_seconds,
    ) -> None:
        """Watch the batches of ``projection``; ``floor_s`` is the least time without progress."""
        self._projection = projection
        self._progress = progress
        self._event_log = event_log
        self._nodes = nodes
        self._node = node
        self._floor_s = floor_s
        self._clock = clock
        self._steady = steady
        self._observed_since: datetime | None = None
        self._working_since: dict[str, datetime] = {}
        self._nodeless_since: dict[str, datetime] = {}

    async def watch(self, stop: asyncio.Event) -> None:
        """Look once a second until ``stop``."""
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
        try:
            beats = await self._nodes.live()
        except LogError as error:
            return self._suspend(str(error))
        lag_s = self._progress.lag_s(self._steady())
        if lag_s is None:
            return self._suspend("the end of the log is not known yet")
        if lag_s > LAG_MOST_S:
            return self._suspend(f"the projection lags {lag_s:.0f} s")
        now = self._clock()
        if self._observed_since is None:
            log.info("watchdog.watching")
            self._observed_since = now
        written: list[BatchEvent] = []
        for found in self._projection.snapshot.live.values():
            working = _working(beats, found.state.spec.pool)
            self._note_pool(found.state.spec.pool, working, now)
            note = self._judge(found, len(working), now)
            if note is not None and await self._append(note, found.state):
                written.append(note)
        return written

    def _suspend(self, reason: str) -> list[BatchEvent]:
        if self._observed_since is not None:  # said once, not every second
            log.info("watchdog.suspended", reason=reason)
        self._observed_since = None
        return []

    def _note_pool(self, pool: str, working: list[NodeBeat], now: datetime) -> None:
        if not working:
            self._nodeless_since.setdefault(pool, now)
            self._working_since.pop(pool, None)
        elif pool not in self._working_since:
            had_none = self._nodeless_since.pop(pool, None) is not None
            since = now if had_none else min(beat.started_at for beat in working)
            self._working_since[pool] = since

    def _judge(self, found: Known, live_nodes: int, now: datetime) -> BatchEvent | None:
        state = found.state
        finding = find_stuck(state, self._surroundings(found, live_nodes, now, lenient=True))
        if finding is not None:
            if state.stuck is not None and state.stuck.rule == finding.rule:
                return None
            return notes.StuckDetected(**self._envelope(state, now), finding=finding)
        if state.stuck is None:
            return None
        # A watchdog that has only just begun does not call off what another one found.
        strict = self._surroundings(found, live_nodes, now, lenient=False)
        if find_stuck(state, strict) is not None:
            return None
        return notes.StuckCleared(**self._envelope(state, now), rule=state.stuck.rule)

    def _surroundings(
        self, found: Known, live_nodes: int, now: datetime, *, lenient: bool
    ) -> Surroundings:
        spec = found.state.spec
        return Surroundings(
            now=now,
            moved_at=found.moved_at,
            live_nodes=live_nodes,
            nodeless_since=self._nodeless_since.get(spec.pool),
            working_since=self._working_since.get(spec.pool),
            latency_p95_s=self._projection.snapshot.latency_p95_s.get(spec.model),
            floor_s=self._floor_s,
            observed_since=self._observed_since if lenient else None,
        )

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
            await self._event_log.append(note, expected=state.note_sequence, bound_s=APPEND_BOUND_S)
        except ConflictError:
            return False  # another watchdog, or another note: the fold will tell
        except LogError as error:
            log.warning("note.postponed", batch_id=state.batch_id, reason=str(error))
            return False
        log.info("note.appended", batch_id=state.batch_id, type=getattr(note, "type", ""))
        return True


def _working(beats: list[NodeBeat], pool: str) -> list[NodeBeat]:
    """Return the beats of the generators that take work of ``pool``."""
    return [beat for beat in beats if beat.service == "generator" and beat.pool == pool]
