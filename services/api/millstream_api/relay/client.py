"""One connected client: an integer cursor and the means to wake it; never a queue, never a task."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Optional, Protocol

from millstream_api.relay.frames import Flavour


class Pipe(Protocol):
    """A connection as a stream uses it: written to at once, and told of what becomes of it.

    ``paused_since`` is the loop time since when the peer has not taken what was written before.
    """

    paused_since: float | None

    def follow(self, client: Optional["Client"]) -> None:
        """Wake ``client`` when the peer takes more, and tell it when the peer is gone."""

    def write(self, body: bytes) -> None:
        """Write a part of the answer's body; nobody waits for the peer."""

    def abort(self) -> None:
        """Drop the connection."""


class Client:
    """What the hub knows of a stream.

    ``cursor`` is the sequence up to which the client was sent everything, None before its first
    snapshot. ``push``, once there, is what a wake does, in the waker's own turn: a task per client
    would cost twice as much. ``sent_at`` is when the client was last sent something, in looks of
    the hub's beat. ``limits_seen`` is the version of the limits that it was sent last,
    ``limits_read`` how the part of it that the client asked for reads.
    ``is_admitted`` tells whether who opened the stream may still do so.
    """

    __slots__ = (
        "_due",
        "_waiter",
        "batch_ids",
        "beat",
        "cursor",
        "flavour",
        "is_admitted",
        "is_ending",
        "is_gone",
        "limits_read",
        "limits_seen",
        "pipe",
        "push",
        "sent_at",
    )

    def __init__(
        self,
        flavour: Flavour,
        cursor: int | None,
        batch_ids: frozenset[str] | None,
        pipe: Pipe,
        is_admitted: Callable[[], bool] = lambda: True,
    ) -> None:
        self.flavour = flavour
        self.cursor = cursor
        self.batch_ids = batch_ids
        self.pipe = pipe
        self.is_admitted = is_admitted
        self.push: Callable[[Client], None] | None = None
        self.beat = False
        self.sent_at = 0
        self.limits_seen: int | None = None
        self.limits_read: Mapping[str, object] | None = None
        self.is_ending = False
        self.is_gone = False
        self._due = False
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Let the client look for news: now, or as soon as its present write has ended."""
        if self.push is None or self.is_ending or self.is_gone:
            self._rouse()
            return
        try:
            self.push(self)
        except Exception as error:  # noqa: BLE001  # it is the stream's own, and ends no other
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_exception(error)

    def end(self) -> None:
        """Ask the stream to end cleanly."""
        self.is_ending = True
        self._rouse()

    def leave(self) -> None:
        """Note that the peer is gone."""
        self.is_gone = True
        self._rouse()

    def abort(self) -> None:
        """Drop the connection."""
        self.pipe.abort()

    async def over(self) -> None:
        """Wait until the peer is gone or the stream is to end."""
        while not (self.is_gone or self.is_ending):
            await self.woken()

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

    def _rouse(self) -> None:
        self._due = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
