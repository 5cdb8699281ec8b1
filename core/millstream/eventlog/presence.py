"""One living process to a name: its beats replace each other, and another's in between end it.

Who starts under a name that beats asks for a sign of life on a subject of that name. Nobody
listens there any more once its process was killed: the name is free at once. One that lives
beats at once, and the newcomer is refused. One that is frozen, or whose machine is gone, does
neither: the name is free when its last beat has aged out, and with it all that it was granted.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from millstream.errors import ConflictError, LogError, LogUnavailableError, NameTakenError
from millstream.eventlog.answers import Answers, receive, subscribed
from millstream.eventlog.buckets import Bucket, Entry
from millstream.eventlog.log import EventLog
from millstream.eventlog.nodes import BEAT_S, Nodes
from millstream.runtime.clock import boot_seconds
from millstream_schemas import subjects
from millstream_schemas.answers import NodeBeat

log = structlog.get_logger()

ASK_S = 0.5
"""The server says within milliseconds that nobody listens."""
POLL_S = 0.1
SIGN_S = 2.0
"""How long one that lives may take to beat when it is asked to."""
TAKES_MOST = 5
GAP_S = 7.0
"""Beats so far apart: an outage may have let others age out, which are 10 s after the last one."""
SETTLE_S = 2 * BEAT_S
"""Whoever lives has beaten again so long after an outage."""


class Beats:
    """The beats of this process: whether they came through without a break, as far as it knows.

    Only then does it tell something that another one's is missing. One that has just started may
    have come after an outage that it knows nothing of.
    """

    def __init__(self, reconnects: Callable[[], int] = lambda: 0) -> None:
        """Begin to listen; ``reconnects`` tells how often the connection was made again."""
        self._reconnects = reconnects
        self._seen = reconnects()
        self._last_at: float | None = None
        self._since = boot_seconds()

    def note(self) -> None:
        """Note that a beat was stored."""
        now = boot_seconds()
        if self._last_at is not None and now - self._last_at > GAP_S:
            self._since = now
        self._last_at = now
        self._note_reconnects(now)

    def _note_reconnects(self, now: float) -> None:
        # The others may have lost the same server, also where no beat was late.
        if (count := self._reconnects()) != self._seen:
            self._seen, self._since = count, now

    @property
    def are_unbroken(self) -> bool:
        """Whether there was no outage until just now, for long enough to hear of who lives."""
        now = boot_seconds()
        self._note_reconnects(now)
        is_beating = self._last_at is None or now - self._last_at <= GAP_S
        return is_beating and now - self._since >= SETTLE_S


class Presence:
    """Holds a service's name for this process, as long as it beats."""

    def __init__(
        self, event_log: EventLog, make: Callable[[], NodeBeat], beats: Beats | None = None
    ) -> None:
        """Hold the name that the beats of ``make`` carry; ``beats`` is told of each."""
        self._beats = beats or Beats()
        self._log = event_log
        self._make = make
        first = make()
        self._started_at, self._service, self._name = first.started_at, first.service, first.node
        self._key = f"{first.service}.{first.node}"
        self._bucket = Bucket(event_log.answers, subjects.NODES_BUCKET)
        self._revision = 0
        self._is_asked = asyncio.Event()

    async def take(self, stop: asyncio.Event) -> None:
        """Take the name; returns early when ``stop`` is set.

        Raises:
            NameTakenError: another process lives under it.
            LogUnavailableError: the log did not answer.
        """
        for _ in range(TAKES_MOST):
            entry = await self._bucket.get(self._key)
            while entry is not None and not stop.is_set() and await self._is_heard():
                entry = await self._outlived(entry, stop)
            if stop.is_set():
                return
            try:
                await self._put(entry.revision if entry is not None else 0)
            except ConflictError:
                continue  # another one takes it, too: is it here yet?
            return
        raise LogUnavailableError(f"{self._key}: others kept taking the name")

    async def keep(self) -> None:
        """Beat, and at once when asked; never ends. An outage of the log is waited out.

        Raises:
            NameTakenError: another process has taken the name meanwhile.
        """
        async with self._listening():
            while True:
                self._is_asked.clear()
                try:
                    await self._beat()
                except LogError as error:
                    log.warning("beat.missed", reason=str(error))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S):
                        await self._is_asked.wait()

    async def leave(self) -> None:
        """Take the beat back: the process ends on purpose; raises LogError."""
        await Nodes(self._log.answers).leave(self._service, self._name)

    async def _beat(self) -> None:
        try:
            await self._put(self._revision)
        except ConflictError:
            entry = await self._bucket.get(self._key)
            if entry is not None and not self._is_own(entry):
                raise NameTakenError(
                    f"another {self._service} was started under the name {self._name!r} while this "
                    "one was frozen or cut off, so this one ends; give each its own MILLSTREAM_NODE"
                ) from None
            # It aged out meanwhile, or it is our own, whose answer was lost.
            await self._put(entry.revision if entry is not None else 0)

    async def _put(self, expected: int) -> None:
        value = self._make().model_dump_json().encode()
        self._revision = await self._bucket.put(self._key, value, expected=expected)
        self._beats.note()

    def _is_own(self, entry: Entry) -> bool:
        return _beat(entry).started_at == self._started_at

    async def _is_heard(self) -> bool:
        subject = subjects.sign_of_life(self._service, self._name)
        return await has_listener(self._log.answers, subject)

    async def _outlived(self, before: Entry, stop: asyncio.Event) -> Entry | None:
        """Return once the beat has aged out or is another one's.

        Raises:
            NameTakenError: a new one came.
        """
        log.warning("name.waited_for", name=self._name, reason="its last holder gives no sign")
        while not stop.is_set():
            entry = await self._bucket.get(self._key)
            if entry is None:
                return None
            if entry.revision != before.revision:
                beat = _beat(entry)
                raise NameTakenError(
                    f"MILLSTREAM_NODE={self._name!r} is the name of another {self._service} that "
                    f"runs, since {beat.started_at:%Y-%m-%d %H:%M:%S} UTC; give each its own name, "
                    "or end that one first"
                )
            await asyncio.sleep(POLL_S)
        return before

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        async def hear(_: Msg) -> None:
            self._is_asked.set()

        subject = subjects.sign_of_life(self._service, self._name)
        async with subscribed(self._log.connection, subject, hear):
            yield


async def has_listener(answers: Answers, subject: str) -> bool:
    """Tell whether a process hears what is sent to ``subject``, though it says nothing.

    Raises:
        LogUnavailableError: there is no connection.
    """
    async with answers.expected() as (reply, queue):
        await answers.send(subject, b"", reply=reply)
        try:
            await receive(queue, subject, ASK_S)  # only the server answers: nobody listens
        except LogUnavailableError:
            return True
    return False


@contextlib.asynccontextmanager
async def heard(connection: Client, subject: str) -> AsyncIterator[None]:
    """Listen on ``subject`` and do nothing: that somebody does is all there is to tell.

    Raises:
        LogUnavailableError: the connection is closed.
    """

    async def hear(_: Msg) -> None:
        """Do nothing."""

    async with subscribed(connection, subject, hear):
        yield


async def sign_of(answers: Answers, service: str, name: str) -> NodeBeat | None:
    """Ask the process under a name for a sign of life; return its new beat, None when none came.

    One that was killed gives none, though its last beat may still be there: the server says so at
    once. Nor does one that is frozen, within ``SIGN_S``. One whose beat has aged out may give one.

    Raises:
        LogUnavailableError: the log did not answer.
    """
    bucket, subject = Bucket(answers, subjects.NODES_BUCKET), subjects.sign_of_life(service, name)
    before = await bucket.get(f"{service}.{name}")
    deadline = boot_seconds() + SIGN_S
    async with answers.expected() as (reply, queue):
        await answers.send(subject, b"", reply=reply)
        while queue.empty() and boot_seconds() < deadline:
            entry = await bucket.get(f"{service}.{name}")
            if entry is not None and (before is None or entry.revision != before.revision):
                return _beat(entry)
            await asyncio.sleep(POLL_S)
    return None


def _beat(entry: Entry) -> NodeBeat:
    return NodeBeat.model_validate_json(entry.value)
