"""The continuous pull reader: a consumer on the server, always two requests outstanding.

``fetch`` waits a round trip for every page; here the next page is asked for while this one
arrives, which is four times faster.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

import structlog
from nats.aio.client import Client

from millstream.errors import LogUnavailableError
from millstream.eventlog.answers import Answers, delivery
from millstream.eventlog.connection import Headers
from millstream.eventlog.frames import Frame
from millstream.eventlog.stored import Stored, stored_message
from millstream_schemas import subjects

log = structlog.get_logger()

REQUEST_MESSAGES = 2000
OUTSTANDING = 2
REQUEST_S = 2.0
EXPIRES_S = 30.0
IDLE_S = 1.0
CHUNK_MOST = 10_000
SILENT_MOST_S = 3.0
"""Three heartbeats missed: the server, or the consumer, is gone."""
RENEW_S = 0.2


class _BrokenError(Exception):
    """The consumer is gone or skipped something: make a new one after the last sequence."""


async def pull(connection: Client, *, after: int, name: str) -> AsyncGenerator[list[Stored], None]:
    """Yield all events after ``after``; never ends; use under ``aclosing``.

    Each list holds what has arrived since the one before (at most 10,000); an empty list comes
    after each second without an event. Lists are contiguous: a lost message or consumer is
    noticed by the consumer's own sequence and read again. An outage is waited out.

    Raises:
        LogUnavailableError: the connection was closed for good.
    """
    answers = Answers(connection)
    while True:
        try:
            async with contextlib.aclosing(_one_consumer(answers, after, name)) as feed:
                async for chunk in feed:
                    if chunk:
                        after = chunk[-1].sequence
                    yield chunk
        except (_BrokenError, LogUnavailableError) as error:
            if connection.is_closed:
                raise LogUnavailableError(f"{name}: the connection to NATS is closed") from error
            log.warning("consumer.renewed", name=name, after=after, reason=str(error))
            yield []
            await asyncio.sleep(RENEW_S)


async def _one_consumer(
    answers: Answers, after: int, name: str
) -> AsyncGenerator[list[Stored], None]:
    consumer = await _create(answers, after, name)
    async with answers.frames() as (inbox, tap):
        reader = _Reader(answers, consumer, inbox)
        await reader.ask(OUTSTANDING)
        while True:
            yield await reader.decode(await tap.take(CHUNK_MOST, IDLE_S))


class _Reader:
    """Keeps requests outstanding and checks that nothing was skipped."""

    def __init__(self, answers: Answers, consumer: str, inbox: str) -> None:
        self._answers = answers
        self._consumer = consumer
        self._inbox = inbox
        self._delivered = 0
        self._left = 0
        self._heard_at = time.monotonic()

    async def ask(self, requests: int) -> None:
        """Send ``requests`` more requests."""
        body = {
            "batch": REQUEST_MESSAGES,
            "expires": int(EXPIRES_S * 1e9),
            "idle_heartbeat": int(IDLE_S * 1e9),
        }
        for _ in range(requests):
            await self._answers.send(
                f"$JS.API.CONSUMER.MSG.NEXT.{subjects.EVENTS}.{self._consumer}",
                json.dumps(body).encode(),
                reply=self._inbox,
            )
            self._left += REQUEST_MESSAGES

    async def decode(self, frames: list[Frame]) -> list[Stored]:
        """Return the events among ``frames``; asks for more in time.

        Raises:
            _BrokenError: a message was skipped, or the server has been silent.
        """
        found: list[Stored] = []
        now = time.monotonic()
        if frames:
            self._heard_at = now
        for frame in frames:
            if frame.reply:  # only what the server itself has to say comes without
                found.append(self._stored(frame))
            elif frame.status == "408":  # a request ran out; what it had left comes in its headers
                self._left -= int(Headers(frame.header_lines).get("Nats-Pending-Messages", "0"))
            elif frame.status != "100":
                raise _BrokenError(f"consumer {self._consumer} answered {frame.status}")
        self._left -= len(found)
        if now - self._heard_at > SILENT_MOST_S:
            raise _BrokenError(f"consumer {self._consumer} is silent")
        while self._left <= (OUTSTANDING - 1) * REQUEST_MESSAGES:
            await self.ask(1)
        return found

    def _stored(self, frame: Frame) -> Stored:
        subject, reply, headers, payload = frame
        _, sequence, delivered, stamp, _ = delivery(reply.decode())
        if int(delivered) != self._delivered + 1:
            raise _BrokenError(f"delivery {delivered} came after {self._delivered}")
        self._delivered += 1
        raw = frame.header_lines if headers else b""
        return stored_message(int(sequence), int(stamp) // 1000, subject.decode(), payload, raw)


async def _create(answers: Answers, after: int, name: str) -> str:
    config: dict[str, Any] = {
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": after + 1,
        "ack_policy": "none",
        "replay_policy": "instant",
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": int(60e9),
        "metadata": {"reader": name},
    }
    request = {"stream_name": subjects.EVENTS, "config": config}
    subject = f"$JS.API.CONSUMER.CREATE.{subjects.EVENTS}"
    answer = await answers.ask(subject, json.dumps(request).encode(), timeout_s=REQUEST_S)
    document = json.loads(answer.data)
    if "error" in document:
        raise LogUnavailableError(f"no consumer: {document['error'].get('description')}")
    return str(document["name"])
