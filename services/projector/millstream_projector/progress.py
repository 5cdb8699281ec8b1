"""How far the projection is: for those who wait for a sequence, and for those who doubt it."""

import asyncio
from collections import deque

import structlog

from millstream.errors import LogError
from millstream.eventlog.log import EventLog
from millstream.runtime.clock import boot_seconds

log = structlog.get_logger()

ASKED_S = 2.0
"""So long after a question more of them are expected."""
FRESHEN_MOST_S = 0.25
"""A first question waits no longer for what came before it."""
CURRENT_LAG_S = 5.0
"""A projector that is further behind catches up; others of its kind answer sooner."""


class Progress:
    """The checkpoint as the event loop knows it, and how far it lies behind the log's end.

    The lag is told in time without comparing two machines' clocks: it is how long ago the log
    ended where the projection is now.
    """

    def __init__(self, checkpoint: int, *, now_s: float) -> None:
        """Start at ``checkpoint``; lag is unknown, so counted from ``now_s``."""
        self.checkpoint = checkpoint
        self.head = 0
        self.due = 0
        """Where the log ended at the look before the last one: what came since may be on its way.
        """
        self._moved = asyncio.Condition()
        self._waiting = 0
        self._is_awaited = asyncio.Event()
        self._heads: deque[tuple[float, int]] = deque()
        self._level_at_s = now_s
        self._has_seen_head = False
        self._was_level = False
        self._asked_at_s = -ASKED_S
        self._may_be_old = False

    async def reach(self, checkpoint: int) -> None:
        """Tell everybody who waits that everything up to ``checkpoint`` is stored."""
        self._may_be_old = False
        if checkpoint <= self.checkpoint:
            return
        async with self._moved:
            self.checkpoint = checkpoint
            self._moved.notify_all()

    async def wait_for(self, sequence: int, timeout_s: float) -> bool:
        """Return whether the checkpoint came to ``sequence`` within ``timeout_s``."""
        if self.checkpoint >= sequence:
            return True
        self._waiting += 1
        self._is_awaited.set()
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self.checkpoint >= sequence)
        except TimeoutError:
            return self.checkpoint >= sequence
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._is_awaited.clear()
        return True

    async def pause(self, awaited_s: float, asked_s: float, unasked_s: float) -> None:
        """Return after ``unasked_s``, after ``asked_s`` if there was a question lately.

        Somebody who waits for a sequence ends it after ``awaited_s``.
        """
        self._may_be_old = not self._is_asked()
        await asyncio.sleep(awaited_s)
        most_s = unasked_s if self._may_be_old else asked_s
        try:
            async with asyncio.timeout(most_s - awaited_s):
                await self._is_awaited.wait()
        except TimeoutError:
            return

    def _is_asked(self) -> bool:
        return boot_seconds() - self._asked_at_s < ASKED_S

    async def freshen(self, event_log: EventLog) -> None:
        """Before an answer: if nobody has asked for a while, let all that is stored be folded.

        A log that can't be reached, or one that moves too fast, lets the answer be as old as the
        pause between two transactions: its ``as_of`` says so.
        """
        self._asked_at_s = boot_seconds()
        if not self._may_be_old:
            return
        try:
            async with asyncio.timeout(FRESHEN_MOST_S):
                head = await event_log.head()
                await self.wait_for(head.last, FRESHEN_MOST_S)
        except (LogError, TimeoutError) as error:
            log.info("answer.not_freshened", checkpoint=self.checkpoint, reason=str(error))

    def saw_head(self, sequence: int, now_s: float) -> None:
        """Note that the log ended at ``sequence`` at ``now_s`` (a monotonic clock)."""
        self.due = self.head if self._has_seen_head else sequence
        self.head = sequence
        self._has_seen_head = True
        self._heads.append((now_s, sequence))

    def lag_s(self, now_s: float) -> float | None:
        """Return how many seconds the projection is behind, None before the end was ever seen."""
        while self._heads and self._heads[0][1] <= self.checkpoint:
            self._level_at_s = self._heads.popleft()[0]
            self._was_level = True
        return now_s - self._level_at_s if self._has_seen_head else None

    def is_current(self, now_s: float) -> bool:
        """Tell whether the projection has come to the log's end once, and lies near it now."""
        lag_s = self.lag_s(now_s)
        return self._was_level and lag_s is not None and lag_s <= CURRENT_LAG_S

    def lag_in_words(self, lag_s: float) -> str:
        """Say to a person that the projection is ``lag_s`` seconds behind."""
        return (
            f"the read model is {lag_s:.0f} s behind the log (at {self.checkpoint:,} of"
            f" {self.head:,}): views are that old, and no batch is called stuck meanwhile"
        )
