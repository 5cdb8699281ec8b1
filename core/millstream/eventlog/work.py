"""The work queue: which slices wait for a node. A cache of the log that may be lost at any time."""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from nats.aio.msg import Msg

from millstream.errors import LogError, LogUnavailableError
from millstream.eventlog.answers import Answers, delivery, receive
from millstream.runtime.clock import boot_seconds
from millstream_schemas import subjects
from millstream_schemas.subjects import Priority, WorkSubject

PUBLISH_S = 5.0
PULL_S = 1.0
LOOK_S = 0.25
SUBJECT_FULL = {10077, 10122}
"""Discard-new per subject: the slice is queued already, which is what was wanted."""


@dataclass(frozen=True, slots=True)
class WorkSize:
    """What whoever queues a slice tells the node that leases it."""

    calls: int = 1
    """How many calls it will have in flight."""
    slots: int = 1


ONE_CALL = WorkSize()


@dataclass(slots=True)
class Lease:
    """One slice handed to this node until ``lease_s`` after the last confirmed beat."""

    work: WorkSubject
    deliveries: int
    size: WorkSize
    _answers: Answers
    _reply: str
    beaten_at: float

    async def beat(self) -> None:
        """Keep the lease; raises LogUnavailableError when the server did not confirm it."""
        sent_at = boot_seconds()
        await self._answers.ask(self._reply, b"+WPI", timeout_s=PUBLISH_S)
        self.beaten_at = sent_at

    async def done(self) -> None:
        """Take the slice off the queue."""
        await self._answers.ask(self._reply, b"+ACK", timeout_s=PUBLISH_S)

    async def give_back(self, delay_s: float = 0.0) -> None:
        """Offer the slice to any node again, after ``delay_s`` seconds."""
        delay = json.dumps({"delay": int(delay_s * 1e9)})
        await self._answers.ask(self._reply, f"-NAK {delay}".encode(), timeout_s=PUBLISH_S)

    async def refuse(self) -> None:
        """Give it back at once, without waiting for an answer."""
        await self._answers.send(self._reply, b"-NAK")

    def is_held(self, lease_s: float) -> bool:
        """Whether the last confirmed beat is younger than the lease (a clock that counts sleep)."""
        return boot_seconds() - self.beaten_at < lease_s


class WorkQueue:
    """Queues slices and leases them."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def enqueue(
        self,
        pool: str,
        priority: Priority,
        batch_id: str,
        slices: Iterable[int],
        size: WorkSize = ONE_CALL,
    ) -> int:
        """Queue slices; one that waits or is leased already stays as it is. Returns the new ones.

        Raises:
            LogUnavailableError: no answer in time.
            LogError: the server refused for another reason.
        """
        body = json.dumps(asdict(size)).encode()
        async with asyncio.TaskGroup() as tasks:
            queued = [
                tasks.create_task(
                    self._enqueue_one(subjects.work(pool, priority, batch_id, index), body)
                )
                for index in slices
            ]
        outcomes = [task.result() for task in queued]
        for outcome in outcomes:
            if isinstance(outcome, LogError):
                raise outcome
        return outcomes.count(True)

    async def _enqueue_one(self, subject: str, body: bytes) -> bool | LogError:
        """Return whether the slice is new, or why it is not queued (a raise ends its siblings)."""
        try:
            answer = await self._answers.ask(subject, body, timeout_s=PUBLISH_S)
        except LogError as error:
            return error
        refusal = json.loads(answer.data).get("error")
        if refusal is None:
            return True
        if refusal.get("err_code") in SUBJECT_FULL:
            return False
        return LogError(f"{subject}: {refusal.get('description')} ({refusal.get('err_code')})")

    async def queued(self, batch_id: str) -> set[int]:
        """Return the slices of a batch that wait or are leased."""
        request = {"subjects_filter": subjects.work_of_batch(batch_id)}
        document = await self._api(f"STREAM.INFO.{subjects.WORK}", request)
        names = document["state"].get("subjects") or {}
        return {subjects.parse_work(name).slice_index for name in names}

    async def all_queued(self) -> dict[str, set[int]]:
        """Return the slices of every batch that wait or are leased, by batch."""
        found: dict[str, set[int]] = {}
        offset = 0
        while True:
            request: dict[str, Any] = {"subjects_filter": subjects.ALL_WORK, "offset": offset}
            document = await self._api(f"STREAM.INFO.{subjects.WORK}", request)
            page = document["state"].get("subjects") or {}
            for name in page:
                work = subjects.parse_work(name)
                found.setdefault(work.batch_id, set()).add(work.slice_index)
            offset += len(page)
            if not page or offset >= document.get("total", 0):
                return found

    async def pools(self) -> list[str]:
        """Return the pools that have a line for every priority, in alphabetical order."""
        names: set[str] = set()
        while True:
            page = await self._api(f"CONSUMER.NAMES.{subjects.WORK}", {"offset": len(names)})
            found = page["consumers"] or ()
            names.update(found)
            if not found or len(names) >= page["total"]:
                return sorted(subjects.pools_of(names))

    async def purge(self, batch_id: str) -> None:
        """Drop all work of a batch."""
        await self._api(
            f"STREAM.PURGE.{subjects.WORK}", {"filter": subjects.work_of_batch(batch_id)}
        )

    async def lease(self, pool: str, priority: Priority) -> Lease | None:
        """Wait up to ``PULL_S`` seconds for a slice; None when none came.

        Raises:
            LogUnavailableError: the server did not answer.
        """
        wish = {"batch": 1, "expires": int(PULL_S * 1e9)}
        # The server ends the wait, not we: a slice sent to nobody lies a whole lease.
        found = await self._pull(pool, priority, wish, PULL_S + PUBLISH_S)
        return found[0] if found else None

    async def take(self, pool: str, priority: Priority, most: int) -> list[Lease]:
        """Return up to ``most`` slices that wait now.

        Raises:
            LogUnavailableError: the server did not answer.
        """
        return await self._pull(pool, priority, {"batch": most, "no_wait": True}, PUBLISH_S)

    async def _pull(
        self, pool: str, priority: Priority, wish: dict[str, Any], bound_s: float
    ) -> list[Lease]:
        """Return what the server sends until the wish is fulfilled or it says that it has no more.

        What has come is returned also when the server then falls silent.
        """
        consumer = subjects.work_consumer(pool, priority)
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{subjects.WORK}.{consumer}"
        found: list[Lease] = []
        async with self._answers.deliveries() as (inbox, queue):
            await self._answers.send(subject, json.dumps(wish).encode(), reply=inbox)
            try:
                while len(found) < wish["batch"]:
                    message = await self._next(queue, subject, bound_s)
                    status = message.headers.get("Status") if message.headers else None
                    if status is None:
                        found.append(self._leased(message))
                    elif status in {"404", "408"} or found:
                        break
                    else:
                        raise LogUnavailableError(f"{consumer} answered {status}")  # noqa: TRY301
            except LogUnavailableError:
                if not found:
                    raise
            except asyncio.CancelledError:
                for lease in [*found, *_left(self._leased, queue)]:
                    await lease.refuse()
                raise
        return found

    async def _next(self, queue: asyncio.Queue[Msg], subject: str, bound_s: float) -> Msg:
        """Return what the server sends next.

        A wish dies with its connection and nothing tells so: after a reconnect it is given up.

        Raises:
            LogUnavailableError: nothing came in time, or the connection is another one by now.
        """
        deadline = boot_seconds() + bound_s
        began = self._answers.reconnects
        while True:
            try:
                return await receive(queue, subject, LOOK_S)
            except LogUnavailableError:
                if self._answers.reconnects != began or boot_seconds() > deadline:
                    raise

    def _leased(self, message: Msg) -> Lease:
        return Lease(
            work=subjects.parse_work(message.subject),
            deliveries=int(delivery(message.reply)[0]),
            size=_size(message.data),
            _answers=self._answers,
            _reply=message.reply,
            beaten_at=boot_seconds(),
        )

    async def _api(self, name: str, request: dict[str, Any]) -> dict[str, Any]:
        payload = json.dumps(request).encode()
        answer = await self._answers.ask(f"$JS.API.{name}", payload, timeout_s=PUBLISH_S)
        document: dict[str, Any] = json.loads(answer.data)
        error = document.get("error")
        if error is not None:
            raise LogUnavailableError(f"{name}: {error.get('description')}")
        return document


def _left(leased: Callable[[Msg], Lease], queue: asyncio.Queue[Msg]) -> Iterator[Lease]:
    """Yield what came as the wait for it was given up."""
    while not queue.empty():
        message = queue.get_nowait()
        if message.reply:
            yield leased(message)


def _size(body: bytes) -> WorkSize:
    """Return how large the message says that its slice is; what it does not say is one."""
    try:
        said = json.loads(body)
        found = {name: said.get(name, 1) for name in ("calls", "slots")}
    except (ValueError, AttributeError):
        return ONE_CALL
    return WorkSize(**{name: n if isinstance(n, int) and n > 0 else 1 for name, n in found.items()})
