"""How far the projection is: for those who wait for a sequence, and for those who doubt it."""

import asyncio
from collections import deque

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
        self._moved = asyncio.Condition()
        self._waiting = 0
        self._is_awaited = asyncio.Event()
        self._heads: deque[tuple[float, int]] = deque()
        self._level_at_s = now_s
        self._has_seen_head = False
        self._was_level = False

    async def reach(self, checkpoint: int) -> None:
        """Tell everybody who waits that everything up to ``checkpoint`` is stored."""
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

    async def pause(self, least_s: float, most_s: float) -> None:
        """Return after ``most_s``, or after ``least_s`` once somebody waits for a sequence."""
        await asyncio.sleep(least_s)
        try:
            async with asyncio.timeout(most_s - least_s):
                await self._is_awaited.wait()
        except TimeoutError:
            return

    def saw_head(self, sequence: int, now_s: float) -> None:
        """Note that the log ended at ``sequence`` at ``now_s`` (a monotonic clock)."""
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
