"""Requests with one or many answers on one shared inbox subscription.

nats-py's own request makes a task per message and its publish_async futures never resolve on an
API error; here an answer resolves its future whatever it says.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError

from millstream.errors import LogError, LogRefusedError, LogUnavailableError
from millstream.eventlog.connection import UserConnection
from millstream.eventlog.frames import Tap
from millstream.runtime.clock import boot_seconds

RECONNECT_S = 1.0
POLL_S = 0.02
_REFUSED = "403"


class Answers:
    """Hands out reply subjects and routes what arrives on them."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._inbox = ""
        self._numbers = itertools.count(1)
        self._waiting: dict[str, asyncio.Queue[Msg]] = {}
        self._asked: dict[str, str] = {}
        self._opening = asyncio.Lock()
        self._user = "(none)"
        if isinstance(connection, UserConnection):
            self._user = connection.user
            connection.on_refusal(self._note_refusal)

    @property
    def reconnects(self) -> int:
        """How often the connection was lost and made again."""
        return int(self._connection.stats["reconnects"])

    @contextlib.asynccontextmanager
    async def expected(self) -> AsyncIterator[tuple[str, asyncio.Queue[Msg]]]:
        """Give a fresh reply subject and the queue of what arrives on it."""
        if not self._inbox:
            await self._open()
        token = str(next(self._numbers))
        queue: asyncio.Queue[Msg] = asyncio.Queue()
        self._waiting[token] = queue
        try:
            yield f"{self._inbox}.{token}", queue
        finally:
            del self._waiting[token]
            self._asked.pop(token, None)

    @contextlib.asynccontextmanager
    async def deliveries(self) -> AsyncIterator[tuple[str, asyncio.Queue[Msg]]]:
        """Give an inbox of its own and the queue of what arrives there.

        A consumer delivers under the stored subject, which names no request: such messages
        can't share an inbox.

        Raises:
            LogUnavailableError: the connection is closed.
        """
        queue: asyncio.Queue[Msg] = asyncio.Queue()

        async def take(message: Msg) -> None:
            queue.put_nowait(message)

        inbox = self._connection.new_inbox()
        async with subscribed(self._connection, inbox, take):
            yield inbox, queue

    @contextlib.asynccontextmanager
    async def frames(self) -> AsyncIterator[tuple[str, Tap]]:
        """Give an inbox of its own and what arrives there as it comes, for whoever reads much.

        Raises:
            LogUnavailableError: the connection is closed.
        """
        if not isinstance(self._connection, UserConnection):
            raise TypeError("a connection that `connected` has not made can't be tapped")
        inbox = self._connection.new_inbox()
        async with contextlib.AsyncExitStack() as stack:
            try:
                tap = await stack.enter_async_context(self._connection.tapped(inbox))
            except (NatsError, OSError) as error:
                raise LogUnavailableError(
                    f"NATS takes no subscription to {inbox}: {error!r}"
                ) from error
            yield inbox, tap

    async def _open(self) -> None:
        async with self._opening:
            if not self._inbox:
                inbox = self._connection.new_inbox()
                await _subscribe(self._connection, f"{inbox}.*", self._route)
                self._inbox = inbox

    async def _route(self, message: Msg) -> None:
        queue = self._waiting.get(message.subject.rpartition(".")[2])
        if queue is not None:  # else nobody waits any more: the request was given up
            queue.put_nowait(message)

    def _note_refusal(self, subject: str) -> None:
        """Answer all who wait for ``subject`` (in lower case): the server stays silent.

        Where it is the inbox that was refused, these are all; the next one asks for it anew.
        """
        inbox = f"{self._inbox}.*"
        is_deaf = subject == inbox.lower()
        if is_deaf:
            self._inbox = ""
        for token, asked in self._asked.items():
            if is_deaf or asked.lower() == subject:
                what = f"subscribe to {inbox}" if is_deaf else f"publish to {asked}"
                headers = {"Status": _REFUSED, "Refused": f"{self._user} may not {what}"}
                self._waiting[token].put_nowait(Msg(self._connection, subject, headers=headers))

    async def ask(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout_s: float = 2.0,
        headers: dict[str, str] | None = None,
    ) -> Msg:
        """Return the first answer.

        Raises:
            LogUnavailableError: none came within ``timeout_s``, or nobody serves ``subject``.
            LogRefusedError: the NATS user may not ask that.
        """
        async with self.expected() as (reply, queue):
            await self.send(subject, payload, reply=reply, headers=headers)
            message = await receive(queue, subject, timeout_s)
        if message.headers and message.headers.get("Status") == "503":
            raise LogUnavailableError(f"nobody answers {subject}")
        return message

    async def send(
        self,
        subject: str,
        payload: bytes,
        *,
        reply: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Publish, waiting a moment for a lost connection.

        Raises:
            LogUnavailableError: the connection stays lost.
            LogError: the payload is larger than the server takes.
        """
        if not self._connection.is_connected:
            await self._wait_connected(subject)
        if reply:
            token = reply.rpartition(".")[2]
            if token in self._waiting:
                self._asked[token] = subject
        try:
            await self._connection.publish(subject, payload, reply=reply, headers=headers)
        except MaxPayloadError as error:
            raise LogError(
                f"{subject}: {len(payload)} bytes are more than the {self._connection.max_payload} "
                "that one message may have; send less"
            ) from error
        except (NatsError, OSError) as error:
            raise LogUnavailableError(f"NATS takes no message on {subject}: {error!r}") from error

    async def _wait_connected(self, subject: str) -> None:
        # The client would keep the message and send it once it is connected again, long after
        # the caller was told that it failed.
        deadline = boot_seconds() + RECONNECT_S
        while not self._connection.is_connected:
            if self._connection.is_closed:
                raise LogUnavailableError(f"{subject}: the connection to NATS is closed")
            if boot_seconds() > deadline:
                raise LogUnavailableError(f"{subject}: no connection to NATS")
            await asyncio.sleep(POLL_S)


@contextlib.asynccontextmanager
async def subscribed(
    connection: Client, subject: str, take: Callable[[Msg], Awaitable[None]]
) -> AsyncIterator[Subscription]:
    """Hand every message on ``subject`` to ``take``; restored after a lost connection.

    Raises:
        LogUnavailableError: the connection is closed.
    """
    subscription = await _subscribe(connection, subject, take)
    try:
        yield subscription
    finally:
        with contextlib.suppress(NatsError, OSError):  # a closed connection has none any more
            await subscription.unsubscribe()


async def _subscribe(
    connection: Client, subject: str, take: Callable[[Msg], Awaitable[None]]
) -> Subscription:
    try:
        return await connection.subscribe(
            subject, cb=take, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
    except (NatsError, OSError) as error:
        raise LogUnavailableError(f"NATS takes no subscription to {subject}: {error!r}") from error


async def receive(queue: asyncio.Queue[Msg], subject: str, timeout_s: float) -> Msg:
    """Return the next message of ``queue``.

    Raises:
        LogUnavailableError: none came within ``timeout_s`` seconds.
        LogRefusedError: the NATS user may not publish to ``subject``, or hear the answer.
    """
    if not queue.empty():
        message = queue.get_nowait()
    else:
        try:
            async with asyncio.timeout(timeout_s):
                message = await queue.get()
        except TimeoutError as error:
            raise LogUnavailableError(f"no answer on {subject} within {timeout_s:g} s") from error
    if message.headers and message.headers.get("Status") == _REFUSED:
        raise LogRefusedError(
            f"the NATS user {message.headers['Refused']}; give it the permissions of its service, "
            "as compose.yaml has them, or correct MILLSTREAM_NATS_USER"
        )
    return message


def delivery(reply: str) -> list[str]:
    """Return what a consumer's reply subject tells.

    Deliveries of the message, stream sequence, consumer sequence, nanoseconds, pending:
    ``$JS.ACK.<stream>.<consumer>.<these>``; newer servers put domain and account in front of the
    stream and a token at the end.
    """
    parts = reply.split(".")
    return parts[4:9] if len(parts) == 9 else parts[6:11]
