"""Leave to start a call on a route: turns, those who wait for them, and why none is given."""

import asyncio
import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self

from millstream.runtime.clock import boot_seconds

LONG_S = 0.2
"""A call that waits for less is not slowed down worth a word: to get leave takes a moment."""
SLOW_S = 1.0
"""A batch whose last call had to wait counts as slow for so long, though none waits just now."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a route takes no call now, until when (the log's time), and whether to probe it."""

    kind: Literal["throttled", "blocked"]
    until: float
    message: str
    wants_probe: bool = False


@dataclass(slots=True, eq=False)
class Turn:
    """Leave to start one call; a context manager around it.

    ``started_at`` is the log's time, ``start_by`` this machine's; ``tokens`` are reserved for it.
    """

    ended: Callable[["Turn"], None]
    started_at: float
    tokens: int = 0
    start_by: float = math.inf
    is_probe: bool = False
    is_used: bool = False
    is_judged: bool = False
    is_over: bool = False

    @property
    def may_start(self) -> bool:
        """Whether the call may still start: one that comes late would crowd a later one."""
        return boot_seconds() <= self.start_by

    def __enter__(self) -> Self:
        return self

    def end(self) -> None:
        """Let another call have the place: this one is over, or was never made."""
        if not self.is_over:
            self.is_over = True
            self.ended(self)

    def __exit__(self, *_: object) -> None:
        self.end()


@dataclass(slots=True, eq=False)
class Waiter:
    """A call of a batch that waits in line; ``granted`` gets its turn."""

    tokens: int
    batch_id: str
    slice_index: int = 0
    queued_at: float = field(default_factory=boot_seconds)
    granted: asyncio.Future[Turn] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    near: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """Done when the turn is a few turns away."""


class Line:
    """Those who wait for a turn, in their order."""

    def __init__(self) -> None:
        self._slow_at: dict[str, float] = {}
        """By batch: when a call last got its turn that had waited for long."""
        self._waiters: deque[Waiter] = deque()

    def __bool__(self) -> bool:
        """Tell whether anybody waits."""
        while self._waiters and self._waiters[0].granted.done():
            self._waiters.popleft()
        return bool(self._waiters)

    def join(self, waiter: Waiter) -> None:
        """Put a call at the end."""
        self._waiters.append(waiter)

    def pop(self) -> Waiter:
        """Take the first one out; somebody must wait."""
        waiter, now = self._waiters.popleft(), boot_seconds()
        if now - waiter.queued_at >= LONG_S:
            self._slow_at[waiter.batch_id] = now
        return waiter

    def slow(self) -> set[str]:
        """Return the batches of which a call waits for long, or got its turn so a moment ago."""
        now = boot_seconds()
        self._slow_at = {one: at for one, at in self._slow_at.items() if now - at < SLOW_S}
        late = (one.batch_id for one in self.waiting() if now - one.queued_at >= LONG_S)
        return {*self._slow_at, *late}

    @property
    def count(self) -> int:
        """How many wait."""
        return len(self.waiting())

    def alert(self, turns: int) -> None:
        """Tell the one who has ``turns`` others before it that its turn is near."""
        if turns < len(self._waiters) and not self._waiters[turns].near.done():
            self._waiters[turns].near.set_result(None)

    def first(self, most: int) -> list[Waiter]:
        """Return those who get the next ``most`` turns."""
        waiting = (waiter for waiter in self._waiters if not waiter.granted.done())
        return list(itertools.islice(waiting, most))

    def waiting(self) -> list[Waiter]:
        """Return those who wait, the first one first."""
        return [waiter for waiter in self._waiters if not waiter.granted.done()]
