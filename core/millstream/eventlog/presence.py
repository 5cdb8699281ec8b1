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
from nats.aio.msg import Msg

from millstream.errors import ConflictError, LogError, LogUnavailableError, NameTakenError
from millstream.eventlog.answers import receive, subscribed
from millstream.eventlog.buckets import Bucket, Entry
from millstream.eventlog.log import EventLog
from millstream.eventlog.nodes import BEAT_S, Nodes
from millstream_schemas import subjects
from millstream_schemas.answers import NodeBeat

log = structlog.get_logger()

ASK_S = 0.5
"""The server says within milliseconds that nobody listens."""
POLL_S = 0.1
TAKES_MOST = 5


class Presence:
    """Holds a service's name for this process, as long as it beats."""

    def __init__(self, event_log: EventLog, make: Callable[[], NodeBeat]) -> None:
        """Hold the name that the beats of ``make`` carry."""
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
            while entry is not None and not stop.is_set() and await self._has_listener():
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

    def _is_own(self, entry: Entry) -> bool:
        return NodeBeat.model_validate_json(entry.value).started_at == self._started_at

    async def _has_listener(self) -> bool:
        """Ask for a sign of life; False when nobody is there to give one."""
        answers, subject = self._log.answers, subjects.sign_of_life(self._service, self._name)
        async with answers.expected() as (reply, queue):
            await answers.send(subject, b"", reply=reply)
            try:
                await receive(queue, subject, ASK_S)  # only the server answers: nobody listens
            except LogUnavailableError:
                return True
        return False

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
                beat = NodeBeat.model_validate_json(entry.value)
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
