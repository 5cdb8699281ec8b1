"""The watchdog's judgement without its clock and its log: who lives, what moved, what is stuck."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Literal, NamedTuple

from millstream.domain.batch_state import BatchState
from millstream.domain.limited import Limited
from millstream.domain.stuck import call_threshold_s, find_stuck
from millstream.domain.surroundings import Line, Surroundings
from millstream_projector.heads import Known
from millstream_projector.stuck.pools import Pools
from millstream_schemas.answers import NodeBeat
from millstream_schemas.notes import StuckFinding

Verdict = StuckFinding | Literal["cleared"]
"""Why a batch is stuck from now on, or that it is not any more."""


class _Barren(NamedTuple):
    """How many samples a batch has, and since when; ``is_seen``: the last one came in sight."""

    made: int
    since: datetime
    is_seen: bool


class Judge:
    """Keeps between two looks what no event tells: it belongs to one watchdog."""

    def __init__(self, *, floor_s: float, lease_s: float) -> None:
        """Judge with the least time without progress and the lease of a slice, in seconds."""
        self._floor_s = floor_s
        self._lease_s = lease_s
        self._observed_since: datetime | None = None
        self._pools = Pools()
        self._barren: dict[str, _Barren] = {}
        self._paused: dict[str, datetime] = {}
        """When each live batch was seen paused last."""

    @property
    def is_watching(self) -> bool:
        """Whether the last look saw the present."""
        return self._observed_since is not None

    def suspend(self) -> None:
        """See nothing until the next look: what happens meanwhile is held against nobody."""
        self._observed_since = None
        self._barren.clear()

    def look(
        self,
        live: Mapping[str, Known],
        latency_p95_s: Mapping[str, float],
        beats: Iterable[NodeBeat],
        now: datetime,
        limited: Mapping[str, Limited] = MappingProxyType({}),
    ) -> Iterator[tuple[BatchState, Verdict]]:
        """Yield each batch of which there is something to say at ``now``.

        ``limited`` are those that a limit of their route slows down.
        """
        if self._observed_since is None:
            self._observed_since = now
        self._pools.look(beats, now)
        for batch_id in [known for known in self._barren if known not in live]:
            del self._barren[batch_id]
            self._paused.pop(batch_id, None)
        known = [found for found in live.values() if found.state.started is not None]
        turns: dict[str, float] = {}
        for state in (found.state for found in known if found.state.phase == "active"):
            spec = state.spec
            lasts_s = call_threshold_s(state, latency_p95_s.get(spec.model), self._floor_s)
            turns[spec.pool] = max(lasts_s, turns.get(spec.pool, 0.0))
        for found in known:
            self._note_samples(found.state, now)
            spec = found.state.spec
            around = self._around(
                latency_p95_s.get(spec.model), turns.get(spec.pool, 0.0), spec.pool, now
            )
            line = _line_of(found.state.batch_id, limited, live)
            verdict = self._judge(found, replace(around, line=line))
            if verdict is not None:
                yield found.state, verdict

    def _note_samples(self, state: BatchState, now: datetime) -> None:
        """Keep since when a batch that may work has made no sample, and when it last might not."""
        if state.phase == "paused":
            self._paused[state.batch_id] = now
        made = state.totals.generated
        before = self._barren.get(state.batch_id)
        if before is None or before.made != made or state.phase != "active":
            self._barren[state.batch_id] = _Barren(made, now, is_seen=before is not None)

    def _judge(self, found: Known, around: Surroundings) -> Verdict | None:
        state = found.state
        barren = self._barren[state.batch_id]
        around = replace(around, moved_at=found.moved_at, barren_since=barren.since)
        paused_at, nodeless_since = self._paused.get(state.batch_id), around.nodeless_since
        if paused_at is not None and nodeless_since is not None:
            # Nobody was missed while it was paused.
            around = replace(around, nodeless_since=max(nodeless_since, paused_at))
        finding = find_stuck(state, replace(around, observed_since=self._observed_since))
        if finding is not None:
            is_known = state.stuck is not None and state.stuck.rule == finding.rule
            return None if is_known else finding
        if state.stuck is None:
            return None
        # A watchdog that has only just begun does not call off what another one found.
        if not barren.is_seen:
            around = replace(around, barren_since=min(barren.since, state.stuck.since))
        return None if find_stuck(state, replace(around, roomy_since=None)) else "cleared"

    def _around(
        self, p95_s: float | None, turn_s: float, pool_name: str, now: datetime
    ) -> Surroundings:
        """Return what surrounds every batch of a pool whose model takes ``p95_s``."""
        pool = self._pools.of(pool_name, now)
        return Surroundings(
            now=now,
            moved_at=None,
            live_nodes=pool.live,
            nodeless_since=pool.nodeless_since,
            working_since=pool.working_since,
            latency_p95_s=p95_s,
            floor_s=self._floor_s,
            alive=self._pools.alive,
            missed=self._pools.missed,
            full_at=self._pools.full_at,
            turn_s=turn_s,
            is_full=pool.is_full,
            roomy_since=pool.roomy_since,
            complaint=pool.complaint,
            calling=self._pools.calling,
            lease_s=self._lease_s,
        )


def _line_of(
    batch_id: str, limited: Mapping[str, Limited], live: Mapping[str, Known]
) -> Line | None:
    """Return the line in which all calls of a batch wait; None where one runs, or none waits."""
    found = limited.get(batch_id)
    if found is None or not found.is_idle:
        return None
    moves = [live[one].moved_at for one in found.at_work if one in live and one != batch_id]
    known = [moved for moved in moves if moved is not None]
    return Line(found.by.message, max(known, default=None))
