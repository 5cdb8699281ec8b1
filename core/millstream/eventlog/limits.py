"""The limits of all routes, one document each, changed with compare-and-set.

Times in them are the log's: each node measures how far its own clock, the one that counts sleep,
is from the stamps of the server. So no node's wall clock matters, right, wrong or jumping.
"""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog
from nats.aio.msg import Msg
from pydantic import ValidationError

from millstream.domain.limits import Limits, RouteState, sound
from millstream.errors import ConflictError, LogUnavailableError
from millstream.eventlog.answers import Answers
from millstream.eventlog.buckets import Bucket, Entry
from millstream.eventlog.sightings import Sightings
from millstream.runtime.clock import boot_seconds
from millstream_schemas import subjects
from millstream_schemas.routes import Route

log = structlog.get_logger()

MEASURE_S = 60.0
MEASUREMENTS = 3
JUMP_S = 1.0
CONFLICTS_MOST = 30
CONFLICT_PAUSE_S = 0.02
WATCH = f"$KV.{subjects.LIMITS_BUCKET}.route.*"

Step = Callable[[RouteState, float], RouteState]
"""(state, the log's time) -> the next state; may be run again after a conflict."""


def limits_of(route: Route) -> Limits:
    """Return the limits that a route pins."""
    return Limits(route.rpm, route.tpm, route.max_concurrency)


def route_key(route: Route, base: str | None, host: str = "") -> str:
    """Return the name under which nodes share a route's limits.

    Args:
        route: The route.
        base: Where its calls go on this node.
        host: This machine, for an address that means another server on each machine.
    """
    parts = (route.litellm_model, base or "", route.api_key_env or "", host)
    return f"route.{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:24]}"


class LogClock:
    """The log's time, from this machine's clock and the measured distance between the two."""

    def __init__(self, bucket: Bucket, node: str) -> None:
        self._bucket = bucket
        self._key = f"clock.{hashlib.sha256(node.encode()).hexdigest()[:16]}"
        self._offset_s = 0.0
        self._measured_at: float | None = None
        self._is_doubted = False

    @property
    def is_measured(self) -> bool:
        """Whether the distance is known; before that no shared time can be read or written."""
        return self._measured_at is not None

    def now(self) -> float:
        """Return the log's time in seconds since 1970."""
        return boot_seconds() + self._offset_s

    def at(self, moment: float) -> datetime:
        """Return a time of the log as a date."""
        return datetime.fromtimestamp(moment, UTC)

    def doubt(self) -> None:
        """Measure with the next use: the server's clock was put to another time."""
        self._is_doubted = True

    async def keep(self) -> None:
        """Measure if that is due: about once a minute, or after a doubt.

        Raises:
            LogUnavailableError: the bucket did not answer.
        """
        measured_at = self._measured_at
        is_fresh = measured_at is not None and boot_seconds() - measured_at < MEASURE_S
        if is_fresh and not self._is_doubted:
            return
        found = [await self._measure() for _ in range(MEASUREMENTS)]
        # The quickest answer errs least: by half of the time it took at most.
        _, offset_s = min(found)
        if measured_at is not None and abs(offset_s - self._offset_s) > JUMP_S:
            log.warning("clock.jumped", seconds=round(offset_s - self._offset_s, 3))
        self._offset_s, self._measured_at = offset_s, boot_seconds()
        self._is_doubted = False

    async def _measure(self) -> tuple[float, float]:
        """Return (seconds it took, distance of the log's clock to ours)."""
        sent = boot_seconds()
        await self._bucket.put(self._key, b"")
        taken_s = boot_seconds() - sent
        entry = await self._bucket.get(self._key)
        if entry is None:
            raise LogUnavailableError(f"{self._key}: what was just stored is not there")
        return taken_s, entry.stored_at.timestamp() - (sent + taken_s / 2)


class SharedLimits:
    """Reads and changes the documents; remembers their revisions."""

    def __init__(self, answers: Answers, node: str) -> None:
        self._bucket = Bucket(answers, subjects.LIMITS_BUCKET)
        self._revisions: dict[str, tuple[int, RouteState]] = {}
        self._stamps: dict[str, tuple[int, float]] = {}
        self._sightings = Sightings()
        self.clock = LogClock(self._bucket, node)

    async def read(self, key: str) -> RouteState:
        """Return the route's state as the bucket's leader has it.

        Raises:
            LogUnavailableError: no answer in time.
        """
        await self.clock.keep()
        entry = await self._bucket.get(key)
        if entry is not None and self._has_jumped(key, entry):
            self.clock.doubt()
            await self.clock.keep()
        state = RouteState() if entry is None else _parsed(key, entry)
        self._revisions[key] = (entry.revision if entry else 0, state)
        return self._seen(key, state)

    async def change(self, key: str, step: Step) -> RouteState:
        """Store what ``step`` makes of the state, and return it; no change stores nothing.

        An answer that was lost may have been stored: a lease may be lost so, never doubled.

        Raises:
            LogUnavailableError: no answer in time, or others kept winning.
        """
        await self.clock.keep()
        for attempt in range(CONFLICTS_MOST):
            if key not in self._revisions:
                await self.read(key)
            revision, state = self._revisions[key]
            seen = self._seen(key, state)
            changed = step(seen, self.clock.now())
            if changed == seen:
                return seen
            # Until it is known to be stored, what was read before is no ground to write on.
            del self._revisions[key]
            made = self._sightings.stored(state, seen, changed)
            try:
                stored = await self._bucket.put(
                    key, made.model_dump_json().encode(), expected=revision
                )
            except ConflictError:
                pause_s = CONFLICT_PAUSE_S * random.random() * min(attempt, 5)  # noqa: S311  # jitter
                await asyncio.sleep(pause_s)
                continue
            self._revisions[key] = (stored, made)
            return self._seen(key, made)
        raise LogUnavailableError(f"{key}: others kept changing it")

    def _seen(self, key: str, state: RouteState) -> RouteState:
        now = self.clock.now()
        return self._sightings.seen(key, sound(state, now), now)

    def _has_jumped(self, key: str, entry: Entry) -> bool:
        """Tell, once for each, that ``entry`` was stored at another time than is told here."""
        stored_at = entry.stored_at.timestamp()
        revision, before_at = self._stamps.get(key, (0, stored_at))
        self._stamps[key] = (entry.revision, stored_at)
        if entry.revision == revision:
            return False
        return not before_at - JUMP_S <= stored_at <= self.clock.now() + JUMP_S


def watched(take: Callable[[str, RouteState], None]) -> Callable[[Msg], Awaitable[None]]:
    """Return a listener on ``WATCH`` that hands on what nodes tried to store, by route key.

    A hint, never a fact: a write that lost against another one is heard here too.
    """

    async def listen(message: Msg) -> None:
        key = message.subject.removeprefix(f"$KV.{subjects.LIMITS_BUCKET}.")
        try:
            state = RouteState.model_validate_json(message.data)
        except ValidationError:
            return
        take(key, state)

    return listen


def _parsed(key: str, entry: Entry) -> RouteState:
    try:
        return RouteState.model_validate_json(entry.value)
    except ValidationError as error:
        # Another version's document: its limits are lost for a moment, no sample is.
        log.warning("limits.unreadable", key=key, reason=str(error)[:200])
        return RouteState()
