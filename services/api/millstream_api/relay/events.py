"""The lossless flavour: every event, from the ring or, for who is behind it, from the stream.

A client is an integer cursor here too. It is sent what follows as fast as it takes it, so a slow
one holds one page of frames, however far it is behind.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from millstream.errors import LogUnavailableError
from millstream_api.relay.client import Client
from millstream_api.relay.frames import EventFrames
from millstream_api.relay.hub import Hub
from millstream_api.relay.positions import Position
from millstream_api.relay.replay import Replay
from millstream_api.relay.ring import Wish, joined

log = structlog.get_logger()

RETRY_S = 1.0
UNKNOWN_POSITION = "unknown_position"

Send = Callable[[bytes], Awaitable[None]]


class EventStream:
    """One client's way through the events."""

    def __init__(
        self,
        hub: Hub,
        replay: Replay | None,
        client: Client,
        wish: Wish,
        clock: Callable[[], datetime],
    ) -> None:
        self._hub = hub
        self._replay = replay
        self._client = client
        self._wish = wish
        self._frames = EventFrames(hub.epoch, clock)
        client.flavour = self._frames

    async def serve(self, asked: Position | None, *, resumes: bool, send: Send) -> None:
        """Send until the peer is gone or the server ends; ``send`` takes whole frames.

        ``resumes``: the client named a place. One that this stream does not have is answered by
        a gap, since nobody knows what lies between; without one the client starts at the end.
        """
        client, ring = self._client, self._hub.ring
        cursor = ring.last
        body = b""
        if (
            asked is not None
            and asked.epoch in {None, self._hub.epoch}
            and asked.sequence <= cursor
        ):
            cursor = asked.sequence
        elif resumes:
            body = self._frames.gap(None, cursor, UNKNOWN_POSITION)
        is_behind = True
        while not (client.is_gone or client.is_ending):
            found, cursor = await self._next(cursor)
            body += found
            client.cursor = cursor
            if is_behind and cursor >= ring.last:
                is_behind = False
                client.beat = True  # tells that nothing is left, also to who filters all of it out
            if client.beat:
                client.beat = False
                body += self._frames.heartbeat(cursor, log_away=self._hub.log_is_away)
            if body:
                await send(body)
                body = b""
            if cursor >= ring.last:
                await client.woken()

    async def _next(self, cursor: int) -> tuple[bytes, int]:
        ring, epoch = self._hub.ring, self._hub.epoch
        if cursor >= ring.floor or self._replay is None:
            return ring.take(max(cursor, ring.floor), self._wish, epoch)
        try:
            entries, reached = await self._replay.read(cursor, ring.floor, self._wish)
        except LogUnavailableError as error:
            log.warning("stream.replay_postponed", after=cursor, reason=str(error))
            await self._client.woken_within(RETRY_S)
            return b"", cursor
        return joined(entries, self._wish, epoch, reached)
