"""Leave to start a call on a route: turns, those who wait for them, and why none is given."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self

from millstream.runtime.clock import boot_seconds


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

    @property
    def may_start(self) -> bool:
        """Whether the call may still start: one that comes late would crowd a later one."""
        return boot_seconds() <= self.start_by

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended(self)


@dataclass(slots=True, eq=False)
class Waiter:
    """A call of a batch that waits in line; ``granted`` gets its turn."""

    tokens: int
    batch_id: str
    queued_at: float = field(default_factory=boot_seconds)
    granted: asyncio.Future[Turn] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
