"""Ends the streams whose token was revoked or expired: let in once, they would go on for ever."""

import asyncio

import structlog

from millstream_api.auth import Guard
from millstream_api.relay.client import Client
from millstream_api.relay.hub import Hub

log = structlog.get_logger()

CHECK_S = 1.0
LOOKS = 2
"""One for the streams that are there, one for those that were let in a moment before."""


async def end_revoked(guard: Guard, hub: Hub) -> None:
    """End streams within two seconds of their token's end; never ends where there are tokens.

    Who does not take the last bytes until the next look is cut off.
    """
    if guard.tokens is None:
        return
    ending: list[Client] = []
    known, looks = guard.tokens.version, 0
    while True:
        await asyncio.sleep(CHECK_S)
        for client in ending:
            if client in hub.clients:
                client.abort()
        guard.tokens.present()  # reads the file again if it has changed, and looks at the time
        if guard.tokens.version != known:
            known, looks = guard.tokens.version, LOOKS
        ending = []
        if looks:
            looks -= 1
            ending = [client for client in hub.clients if not client.is_admitted()]
        for client in ending:
            log.info("stream.revoked")
            client.end()
