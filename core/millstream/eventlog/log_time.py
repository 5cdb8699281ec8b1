"""The log's time: what its server would stamp a message with now, whatever a wall clock says.

Silence, rates and durations are told in this one time. It is known from the stamps of the server's
answers and from this machine's clock that counts sleep and that nobody sets.
"""

from datetime import UTC, datetime

import structlog

from millstream.runtime.clock import boot_seconds, utc_now

log = structlog.get_logger()

JUMP_S = 1.0


class LogTime:
    """The distance of the log's clock to this machine's, narrowed by each answer.

    An answer was stamped between its question and its arrival. So it bounds the distance on both
    sides, and a slow one, which bounds it loosely, spoils nothing that is known better.
    """

    def __init__(self) -> None:
        """Know nothing until ``note``."""
        self.jumps = 0
        """How often the server's clock was set, or another server took over."""
        self._offset_s: float | None = None

    def note(self, stamp: datetime, *, asked_s: float, heard_s: float) -> None:
        """Take note of a stamp that was given between ``asked_s`` and ``heard_s``."""
        least, most = stamp.timestamp() - heard_s, stamp.timestamp() - asked_s
        if self._offset_s is None:
            self._offset_s = (least + most) / 2
            return
        offset_s = min(max(self._offset_s, least), most)
        if (moved_s := offset_s - self._offset_s) and abs(moved_s) > JUMP_S:
            self.jumps += 1
            log.warning("log_time.jumped", seconds=round(moved_s, 3))
        self._offset_s = offset_s

    def now(self) -> datetime:
        """Return the log's time; before the first answer this machine's."""
        if self._offset_s is None:
            return utc_now()
        return datetime.fromtimestamp(boot_seconds() + self._offset_s, UTC)

    def clock_ahead_s(self) -> float | None:
        """Return how far this machine's wall clock is ahead of the log's, None if not known."""
        if self._offset_s is None:
            return None
        return round((utc_now() - self.now()).total_seconds(), 3)
