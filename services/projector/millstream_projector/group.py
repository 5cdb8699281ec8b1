"""Which requests of the projectors' group this one takes: none while another knows more of the log.

A new or a slow projector would answer with what it has folded so far, and deny what it has not,
though another could tell. One that has no better beside it answers from what it has: its ``as_of``
says how old that is.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from millstream.errors import LogError
from millstream.eventlog.nodes import Nodes
from millstream.runtime.clock import boot_seconds
from millstream_projector.progress import Progress
from millstream_schemas import subjects

log = structlog.get_logger()

LOOK_S = 0.5
PART_S = 1
"""How long a projector that leaves waits for the server to answer."""


@dataclass(slots=True)
class _Share:
    """What is done with the requests on one subject."""

    subject: str
    take: Callable[[Msg], Awaitable[None]]
    subscription: Subscription | None = None


class Group:
    """One projector's part in the group: it takes requests or leaves them to others.

    Of two that are behind the one that has folded less leaves them to the other, so that one takes
    them in any case.
    """

    def __init__(self, connection: Client, progress: Progress, nodes: Nodes, *, node: str) -> None:
        """Take requests over ``connection`` until ``decide`` says otherwise."""
        self.connection = connection
        self._progress = progress
        self._nodes = nodes
        self._node = node
        self._shares: list[_Share] = []
        self.takes = True

    async def serve(self, subject: str, take: Callable[[Msg], Awaitable[None]]) -> None:
        """Give ``take`` this projector's part of the requests on ``subject``, until ``leave``."""
        share = _Share(subject, take)
        self._shares.append(share)
        if self.takes:
            await self._join(share)

    async def leave(self, subject: str) -> None:
        """Take no more of ``subject``; what came before may still be taken."""
        for share in [one for one in self._shares if one.subject == subject]:
            self._shares.remove(share)
            await self._part(share)

    async def watch(self, stop: asyncio.Event) -> None:
        """Decide again and again, until ``stop``."""
        while not stop.is_set():
            await self.decide()
            try:
                async with asyncio.timeout(LOOK_S):
                    await stop.wait()
            except TimeoutError:
                continue

    async def decide(self) -> None:
        """Begin to take requests, or leave them to others, as things are now."""
        takes = self._progress.is_current(boot_seconds()) or not await self._is_another_ahead()
        if takes == self.takes:
            return
        self.takes = takes
        log.info(
            "queries.taken" if takes else "queries.left_to_others",
            checkpoint=self._progress.checkpoint,
            head=self._progress.head,
        )
        for share in self._shares:
            if takes:
                await self._join(share)
            else:
                await self._part(share)

    async def _is_another_ahead(self) -> bool:
        try:
            beats = await self._nodes.live()
        except LogError as error:
            log.info("group.unknown", reason=str(error))
            return not self.takes
        return any(
            beat.service == "projector"
            and beat.node != self._node
            and beat.sequence > self._progress.checkpoint
            for beat in beats
        )

    async def _join(self, share: _Share) -> None:
        share.subscription = await self.connection.subscribe(
            share.subject, queue=subjects.QUERY_GROUP, cb=share.take
        )

    async def _part(self, share: _Share) -> None:
        subscription, share.subscription = share.subscription, None
        if subscription is None:
            return
        try:
            # One that does not answer has sent nothing: there is no use in draining for 10 s.
            await self.connection.flush(PART_S)
            # What the server sent before it knew of this is still taken.
            await subscription.drain()  # type: ignore[no-untyped-call]
        except (NatsError, OSError, TimeoutError) as error:
            log.info("group.not_left", subject=share.subject, reason=str(error))
            # Else the client would subscribe to it again with its next connection.
            with contextlib.suppress(NatsError, OSError):  # closed: there is none to come
                await subscription.unsubscribe()
