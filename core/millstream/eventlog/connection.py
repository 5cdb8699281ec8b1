"""One NATS connection per process, reconnecting for ever."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import Any

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from millstream.errors import LogRefusedError, LogUnavailableError, SettingsError
from millstream.eventlog.frames import Frame, FrameParser, Tap
from millstream.runtime.clock import boot_seconds
from millstream.runtime.settings import Settings

log = structlog.get_logger()

CONNECT_BOUND_S = 10.0
AGAIN_S = 10.0
DRAIN_BOUND_S = 2.0
CANCEL_AGAIN_S = 0.1
_REFUSED = re.compile(r'permissions violation for (?:publish|subscription) to "([^"]+)"')


class Headers(Mapping[str, str]):
    """A message's headers, and the bytes that they are read from: what the hash chain covers.

    They are read when somebody asks for one: whoever reads the whole log never does.
    """

    __slots__ = ("_found", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._found: dict[str, str] | None = None

    def __getitem__(self, name: str) -> str:
        """Return a header; raises KeyError when it is not there."""
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        """Give the names."""
        return iter(self._read())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._read())

    def __bool__(self) -> bool:
        """Tell whether there are any, without reading them."""
        return bool(self.raw)

    def _read(self) -> dict[str, str]:
        if self._found is None:
            lines = self.raw.decode("utf-8", "replace").split("\r\n")
            parted = (line.partition(":") for line in lines)
            self._found = {name: value.strip() for name, colon, value in parted if colon}
        return self._found


class UserConnection(Client):
    """The client with a lazy header parser, and subscriptions that can be tapped.

    It knows its user, and tells who listens which publish or subscription the server refused to
    that user: the server answers such a publish with silence.
    """

    def __init__(self, user: str | None) -> None:
        super().__init__()
        self.user = user or "(none)"
        self._listeners: list[Callable[[str], None]] = []
        self._taps: dict[int, Tap] = {}
        self._ps = FrameParser(self, self._taps)

    @contextlib.asynccontextmanager
    async def tapped(self, subject: str) -> AsyncIterator[Tap]:
        """Give what arrives on ``subject``, as it comes; restored after a lost connection.

        Raises:
            NatsError, OSError: the connection is closed.
        """
        tap = Tap()
        subscription = await self.subscribe(subject, cb=_never)
        number = subscription._id  # noqa: SLF001  # the wire's name of it
        self._taps[number] = tap
        try:
            yield tap
        finally:
            try:
                with contextlib.suppress(
                    NatsError, OSError
                ):  # a closed connection has none any more
                    await subscription.unsubscribe()
            finally:
                del self._taps[number]

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        tap = self._taps.get(sid)
        if tap is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            tap.put(Frame(subject, reply, headers or b"", data))

    def on_refusal(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the subject, in lower case, of all that is refused."""
        self._listeners.append(listener)

    def tell_refusal(self, error: Exception) -> None:
        """Tell the listeners if ``error`` is the refusal of a publish or a subscription."""
        found = _REFUSED.search(str(error))
        if found:
            for listener in self._listeners:
                listener(found[1])

    async def close(self) -> None:
        """Close the connection for good, and its socket in every case.

        The client takes itself for closed once it has begun to close: an attempt to connect that is
        cancelled while it closes its own socket, or a close that is, would leave the socket open.
        """
        try:
            await super().close()
        finally:
            self._close_socket()

    async def _connect_to_server(self, s: Any) -> None:
        # The client forgets the socket of an attempt to come back that failed after its beginning.
        self._close_socket()
        await super()._connect_to_server(s)

    def _close_socket(self) -> None:
        # What is closed in peace may wait for ever for a peer that reads nothing; and over TLS what
        # is closed twice can't be written to any more, not even in vain.
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    @staticmethod
    def _parse_header_lines(raw: bytes) -> Mapping[str, str]:  # type: ignore[override]  # only read
        return Headers(raw)


async def _never(message: Msg) -> None:
    raise RuntimeError(f"{message.subject} came past the tap")


class _ErrorNotes:
    """Logs what the client reports, the same words at most every ``AGAIN_S`` seconds.

    While no server answers, the client reports each of its ten attempts a second.
    """

    def __init__(self, client: UserConnection) -> None:
        self._client = client
        self._words = ""
        self._noted_at = 0.0
        self.is_unauthorized = False

    async def note(self, error: Exception) -> None:
        """Log ``error`` unless its words were logged just now."""
        # Kept: a server that refuses a user cuts the connection, which is the last one hears.
        self.is_unauthorized |= "authorization violation" in str(error).lower()
        self._client.tell_refusal(error)
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
        LogRefusedError: the servers do not take the user and its password.
        SettingsError: the password can't be read.
    """
    client = UserConnection(settings.nats_user)
    notes = _ErrorNotes(client)

    async def note_disconnect() -> None:
        if not client.is_closed:
            log.warning("nats.connection_lost")

    connecting = client.connect(
        servers=[url.strip() for url in settings.nats_url.split(",")],
        name=f"{service}/{settings.node}",
        inbox_prefix=f"_INBOX_{service}",
        user=settings.nats_user,
        password=_password(settings),
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.1,  # type: ignore[arg-type]  # seconds; floats work
        ping_interval=2,
        max_outstanding_pings=2,
        connect_timeout=1,
        drain_timeout=int(DRAIN_BOUND_S),
        error_cb=notes.note,
        disconnected_cb=note_disconnect,
        reconnected_cb=_note_reconnect,
    )
    try:
        await _bounded(connecting, bound_s)
    except asyncio.CancelledError:  # perhaps just as the connection was there
        await _close(client)
        raise
    except (TimeoutError, NatsError, OSError) as error:
        await _close(client)
        if notes.is_unauthorized:
            raise LogRefusedError(
                f"NATS at {settings.nats_url} does not take the user {client.user}; correct "
                "MILLSTREAM_NATS_USER and the password in MILLSTREAM_NATS_PASSWORD_FILE"
            ) from error
        raise LogUnavailableError(
            f"no NATS server answered at {settings.nats_url} within {bound_s:g} s; "
            "start one (`millstream up` does) or correct MILLSTREAM_NATS_URL"
        ) from error
    try:
        yield client
    finally:
        await _close(client)


async def _close(client: Client) -> None:
    # AssertionError is raised before any connection; RuntimeError by uvloop, where nats-py flushes
    # to a server that has gone.
    expected = TimeoutError, NatsError, OSError, AssertionError, RuntimeError
    with contextlib.suppress(*expected):
        async with asyncio.timeout(DRAIN_BOUND_S):
            await client.close()


async def _bounded(work: Coroutine[Any, Any, None], bound_s: float) -> None:
    """Do ``work``, or raise TimeoutError after ``bound_s`` seconds.

    It is cancelled until it ends. The client tries again for ever, and ``asyncio.wait_for``, which
    it waits with, loses a cancellation that comes as the answer does (cpython issue 86296, mended
    in Python 3.12): the one of ``asyncio.timeout`` left it trying where a server refuses at once.
    """
    task = asyncio.create_task(work)  # noqa: TID251  # it ends before this function does
    try:
        await asyncio.wait({task}, timeout=bound_s)
    finally:
        is_late = not task.done()
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_AGAIN_S)
    if is_late and task.cancelled():
        raise TimeoutError
    task.result()


def _password(settings: Settings) -> str | None:
    path = settings.nats_password_file
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"MILLSTREAM_NATS_PASSWORD_FILE={path} can't be read: {error}; "
            "name a file that holds the password of MILLSTREAM_NATS_USER"
        ) from error
