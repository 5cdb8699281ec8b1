"""The last part of the event store, kept for ends: a stop must fit when nothing else does.

What makes work asks for room before it is stored, and is refused from the reserve on: starts,
children, resumes, priorities. Notes and what was refused may take half of the reserve. A pause, a
stop, what closes its slices, and the answers of calls in flight are always let through.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from millstream.errors import LogFullError
from millstream_schemas import control, notes, refusals
from millstream_schemas.envelope import Event

KEPT_SHARE = 0.05
KEPT_LEAST = 512 * 1024
"""The slices' closing events of some batches fit into it."""
KEPT_MOST_SHARE = 0.15
"""Of a small store no more than so much is kept."""
KEPT_MOST = 2 * 2**30
"""Of a large store no more is kept: the ends of a thousand batches with a million slots each."""
NEAR_BYTES = 64 * 2**20
"""So far from the reserve the last look, of some seconds ago, is good enough: others write too."""
_MAKES_WORK = (
    control.BatchStarted,
    control.BatchResumed,
    control.BatchPriorityChanged,
    notes.ChildStarted,
)
_TELLS = (
    notes.StuckDetected,
    notes.StuckCleared,
    notes.BudgetWarned,
    notes.RouteThrottled,
    notes.RouteBlocked,
    notes.RouteRecovered,
    notes.RouteNotDirect,
    refusals.CommandRefused,
)


@dataclass(frozen=True, slots=True)
class Fill:
    """How many bytes the store uses, and how many it may use at most; 0: as many as it likes."""

    used: int
    most: int

    @property
    def share(self) -> float:
        """The used share (0..1)."""
        return self.used / self.most if self.most else 0.0

    @property
    def kept(self) -> int:
        """How many bytes at its end are the reserve."""
        least = min(KEPT_LEAST, KEPT_MOST_SHARE * self.most)
        return int(min(KEPT_MOST, max(KEPT_SHARE * self.most, least)))

    def fits(self, size: int, kept: int) -> bool:
        """Tell whether ``size`` bytes more would leave ``kept`` bytes."""
        return not self.most or self.used + size + kept <= self.most


class Reserve:
    """Refuses what would take from the reserve, by the last look or, near it, by a new one."""

    def __init__(self, look: Callable[[], Awaitable[Fill]]) -> None:
        self._look = look
        self._seen: Fill | None = None
        self._since = 0
        """Bytes that were let in since the last look."""

    def note(self, fill: Fill) -> None:
        """Take note of a look."""
        self._seen, self._since = fill, 0

    async def admit(self, event: Event, size: int) -> None:
        """Return if there is room for an event of ``size`` bytes.

        Raises:
            LogFullError: it must leave what is left to others.
            LogUnavailableError: the log did not answer.
        """
        if not isinstance(event, _MAKES_WORK + _TELLS):
            return
        seen = self._seen
        if seen is None or not seen.fits(self._since + size, seen.kept + NEAR_BYTES):
            seen = await self._look()  # which notes it
        kept = seen.kept if isinstance(event, _MAKES_WORK) else seen.kept // 2
        if not seen.fits(self._since + size, kept):
            raise LogFullError(
                f"the event store is {seen.share:.0%} full, and what is left is kept for stops and "
                "pauses: raise MILLSTREAM_MAX_BYTES or free disk space where NATS keeps it"
            )
        self._since += size
