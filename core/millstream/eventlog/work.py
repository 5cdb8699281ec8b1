"""The work queue: which slices wait for a node. A cache of the log that may be lost at any time."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nats.aio.msg import Msg

from millstream.errors import LogError, LogUnavailableError
from millstream.eventlog.answers import Answers, delivery, receive
from millstream.runtime.clock import boot_seconds
from millstream_schemas import subjects
from millstream_schemas.subjects import Priority, WorkSubject

PUBLISH_S = 5.0
PULL_S = 1.0
SUBJECT_FULL = {10077, 10122}
"""Discard-new per subject: the slice is queued already, which is what was wanted."""


@dataclass(slots=True)
class Lease:
    """One slice handed to this node until ``lease_s`` after the last confirmed beat."""

    work: WorkSubject
    deliveries: int
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

    def is_held(self, lease_s: float) -> bool:
        """Whether the last confirmed beat is younger than the lease (a clock that counts sleep)."""
        return boot_seconds() - self.beaten_at < lease_s


class WorkQueue:
    """Queues slices and leases them."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def enqueue(
        self, pool: str, priority: Priority, batch_id: str, slices: Iterable[int]
    ) -> int:
        """Queue slices; one that waits or is leased already stays as it is. Returns the new ones.

        Raises:
            LogUnavailableError: no answer in time.
            LogError: the server refused for another reason.
        """
        async with asyncio.TaskGroup() as tasks:
            queued = [
                tasks.create_task(self._enqueue_one(subjects.work(pool, priority, batch_id, index)))
                for index in slices
            ]
        outcomes = [task.result() for task in queued]
        for outcome in outcomes:
            if isinstance(outcome, LogError):
                raise outcome
        return outcomes.count(True)

    async def _enqueue_one(self, subject: str) -> bool | LogError:
        """Return whether the slice is new, or why it is not queued (a raise ends its siblings)."""
        try:
            answer = await self._answers.ask(subject, b"", timeout_s=PUBLISH_S)
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
        consumer = subjects.work_consumer(pool, priority)
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{subjects.WORK}.{consumer}"
        body = json.dumps({"batch": 1, "expires": int(PULL_S * 1e9)}).encode()
        async with self._answers.deliveries() as (inbox, queue):
            await self._answers.send(subject, body, reply=inbox)
            try:
                # The server ends the wait, not we: a slice sent to nobody lies a whole lease.
                message = await receive(queue, subject, PULL_S + PUBLISH_S)
            except asyncio.CancelledError:
                await self._refuse(queue)
                raise
        status = message.headers.get("Status") if message.headers else None
        if status in {"404", "408"}:
            return None
        if status is not None:
            raise LogUnavailableError(f"{consumer} answered {status}")
        deliveries = int(delivery(message.reply)[0])
        work = subjects.parse_work(message.subject)
        return Lease(work, deliveries, self._answers, message.reply, boot_seconds())

    async def _refuse(self, queue: asyncio.Queue[Msg]) -> None:
        """Hand back at once what came as the wait was given up."""
        while not queue.empty():
            message = queue.get_nowait()
            if message.reply:
                await self._answers.send(message.reply, b"-NAK")

    async def _api(self, name: str, request: dict[str, str]) -> dict[str, Any]:
        payload = json.dumps(request).encode()
        answer = await self._answers.ask(f"$JS.API.{name}", payload, timeout_s=PUBLISH_S)
        document: dict[str, Any] = json.loads(answer.data)
        error = document.get("error")
        if error is not None:
            raise LogUnavailableError(f"{name}: {error.get('description')}")
        return document
