"""What the watchdog has seen of the generators: since when a pool has any, and who went away."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from millstream_schemas.answers import NodeBeat

GENERATOR = "generator"
MISSED_MOST = 10_000


@dataclass(slots=True)
class Pool:
    """One pool as of the last look."""

    live: int = 0
    nodeless_since: datetime | None = None
    working_since: datetime | None = None
    is_full: bool = False
    roomy_since: datetime | None = None
    complaint: str = ""


class Pools:
    """Every pool of which a batch or a generator was seen; turned by the beats of each look."""

    def __init__(self) -> None:
        self.alive: frozenset[str] = frozenset()
        self.calling: frozenset[str] = frozenset()
        self.full_at: dict[str, datetime] = {}
        self.missed: dict[str, datetime] = {}
        self._pools: dict[str, Pool] = {}
        self._beats: dict[str, list[NodeBeat]] = {}

    def look(self, beats: Iterable[NodeBeat], now: datetime) -> None:
        """Take note of who lives at ``now``."""
        self._beats = {}
        for beat in beats:
            if beat.service == GENERATOR:
                self._beats.setdefault(beat.pool, []).append(beat)
        alive = frozenset(beat.node for found in self._beats.values() for beat in found)
        for node in self.alive - alive:
            self.missed[node] = now
        for node in alive:
            self.missed.pop(node, None)
        for node in list(self.missed)[:-MISSED_MOST]:
            del self.missed[node]
        self.alive = alive
        self.calling = frozenset(
            beat.node for found in self._beats.values() for beat in found if beat.in_flight
        )
        self.full_at = {node: at for node, at in self.full_at.items() if node in alive}
        full = (beat.node for found in self._beats.values() for beat in found if beat.is_full)
        self.full_at.update(dict.fromkeys(full, now))
        for pool in self._beats.keys() | self._pools.keys():
            self._note(pool, now)

    def of(self, name: str, now: datetime) -> Pool:
        """Return the pool ``name``, as of the look at ``now``."""
        if name not in self._pools:
            self._note(name, now)
        return self._pools[name]

    def _note(self, name: str, now: datetime) -> None:
        pool = self._pools.setdefault(name, Pool())
        working = self._beats.get(name, [])
        pool.live = len(working)
        pool.complaint = _complaint(working)
        is_full = bool(working) and all(beat.is_full for beat in working)
        if pool.is_full and not is_full:
            pool.roomy_since = now
        pool.is_full = is_full
        if not working:
            pool.nodeless_since = pool.nodeless_since or now
            pool.working_since = None
        elif pool.working_since is None:
            had_none = pool.nodeless_since is not None
            pool.working_since = (
                now if had_none else min(now, *(beat.started_at for beat in working))
            )
            pool.nodeless_since = None


def _complaint(working: list[NodeBeat]) -> str:
    """Return why no generator starts a call; empty while one of them does."""
    notes = [beat.note for beat in working]
    return next(iter(sorted(set(filter(None, notes)))), "") if notes and all(notes) else ""
