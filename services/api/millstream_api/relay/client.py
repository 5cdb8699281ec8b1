"""One connected client: an integer cursor and the means to wake it; never a queue."""

import asyncio
import contextlib
from collections.abc import Callable

from millstream_api.relay.frames import Flavour


class Client:
    """What the hub knows of a stream.

    ``cursor`` is the sequence up to which the client was sent everything, None before its first
    snapshot. ``sending_since`` is the loop time of a write that has not ended yet. ``is_admitted``
    tells whether who opened the stream may still do so.
    """

    __slots__ = (
        "_due",
        "_waiter",
        "abort",
        "batch_ids",
        "beat",
        "cursor",
        "flavour",
        "is_admitted",
        "is_ending",
        "is_gone",
        "sending_since",
    )

    def __init__(
        self,
        flavour: Flavour,
        cursor: int | None,
        batch_ids: frozenset[str] | None,
        abort: Callable[[], None],
        is_admitted: Callable[[], bool] = lambda: True,
    ) -> None:
        self.flavour = flavour
        self.cursor = cursor
        self.batch_ids = batch_ids
        self.abort = abort
        self.is_admitted = is_admitted
        self.beat = False
        self.is_ending = False
        self.is_gone = False
        self.sending_since: float | None = None
        self._due = False
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Let the client look for news: now, or as soon as its present write has ended."""
        self._due = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def end(self) -> None:
        """Ask the stream to end cleanly."""
        self.is_ending = True
        self.wake()

    def leave(self) -> None:
        """Note that the peer is gone."""
        self.is_gone = True
        self.wake()

    async def woken_within(self, bound_s: float) -> None:
        """Wait until somebody wakes the client, ``bound_s`` seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(bound_s):
                await self.woken()

    async def woken(self) -> None:
        """Wait until somebody wakes the client; a wake during its last write counts."""
        if not self._due:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._due = False
