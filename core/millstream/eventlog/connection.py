"""One NATS connection per process, reconnecting for ever."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from millstream.errors import LogUnavailableError
from millstream.runtime.clock import boot_seconds
from millstream.runtime.settings import Settings

log = structlog.get_logger()

CONNECT_BOUND_S = 10.0
AGAIN_S = 10.0
DRAIN_BOUND_S = 2.0


class _Connection(Client):
    """The client with a header parser that checks less: reading the log costs half as much."""

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in raw.decode("utf-8", "replace").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                found[name] = value.strip()
        return found


class _ErrorNotes:
    """Logs what the client reports, the same words at most every ``AGAIN_S`` seconds.

    While no server answers, the client reports each of its ten attempts a second.
    """

    def __init__(self) -> None:
        self._words = ""
        self._noted_at = 0.0

    async def note(self, error: Exception) -> None:
        """Log ``error`` unless its words were logged just now."""
        words = str(error) or type(error).__name__
        now = boot_seconds()
        if words == self._words and now - self._noted_at < AGAIN_S:
            return
        self._words, self._noted_at = words, now
        log.warning("nats.error_reported", error=words)


async def _note_reconnect() -> None:
    log.info("nats.connection_restored")


@contextlib.asynccontextmanager
async def connected(
    settings: Settings, service: str, *, bound_s: float = CONNECT_BOUND_S
) -> AsyncIterator[Client]:
    """Give a connection that survives restarts of the server; closed at the end.

    A dead peer is noticed within about 4 s (two pings of 2 s).

    Raises:
        LogUnavailableError: no server answered within ``bound_s`` seconds.
    """
    client = _Connection()

    async def note_disconnect() -> None:
        if not client.is_closed:
            log.warning("nats.connection_lost")

    try:
        async with asyncio.timeout(bound_s):
            await client.connect(
                servers=[url.strip() for url in settings.nats_url.split(",")],
                name=f"{service}/{settings.node}",
                inbox_prefix=f"_INBOX_{service}",
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.1,  # type: ignore[arg-type]  # seconds; floats work
                ping_interval=2,
                max_outstanding_pings=2,
                connect_timeout=1,
                drain_timeout=int(DRAIN_BOUND_S),
                error_cb=_ErrorNotes().note,
                disconnected_cb=note_disconnect,
                reconnected_cb=_note_reconnect,
            )
    except (TimeoutError, NatsError, OSError) as error:
        with contextlib.suppress(AssertionError):  # what close raises before any connection
            await client.close()
        raise LogUnavailableError(
            f"no NATS server answered at {settings.nats_url} within {bound_s:g} s; "
            "start one (`millstream up` does) or correct MILLSTREAM_NATS_URL"
        ) from error
    try:
        yield client
    finally:
        # uvloop raises RuntimeError where nats-py flushes to a server that has gone.
        with contextlib.suppress(TimeoutError, NatsError, OSError, RuntimeError):
            async with asyncio.timeout(DRAIN_BOUND_S):
                await client.close()
