"""Appends with a fence, coalesced.

Everything that waits while one write is under way goes out in the next one: a group commit. On
one node every write is an fsync, so an atomic batch of many events costs what a few single ones
do. A batch is refused whole when one compare-and-set fails; its parts are then tried alone.
"""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from nats.aio.msg import Msg

from millstream.errors import ConflictError, LogError, LogFullError, LogUnavailableError
from millstream.eventlog.answers import Answers, receive
from millstream.runtime.clock import boot_seconds, new_id

log = structlog.get_logger()

BATCH_LEAST = 4
"""An atomic batch costs about four fsyncs: fewer messages are cheaper alone."""
BATCH_MOST = 500
BATCH_BYTES = 1_000_000
"""Half of what the client buffers: beyond that it waits for the socket, and while it does so it
swallows a cancellation."""
ATTEMPT_S = 1.0
RETRY_S = 0.05

WRONG_LAST_SEQUENCE = 10071
APPEND_UNDER_WAY = 10164
STORE_FULL = 10077
PASSING = {10176, 10210}
"""The batch came in pieces (a lost connection), or too many are open: try again."""

EXPECTED = "Nats-Expected-Last-Subject-Sequence"


@dataclass(slots=True, eq=False)
class Chain:
    """Payloads for one subject, stored together or not at all, after sequence ``expected``."""

    subject: str
    payloads: Sequence[bytes]
    expected: int
    last_sequence: int = 0
    error: LogError | None = None
    turn: asyncio.Future[None] | None = None

    @property
    def is_settled(self) -> bool:
        """Whether the outcome is known."""
        return self.last_sequence > 0 or self.error is not None

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for the outcome."""
        return not self.is_settled and not (self.turn is not None and self.turn.cancelled())


class Publisher:
    """Appends chains; concurrent callers share writes.

    One caller at a time writes, for all who wait. Once its own chain is settled it leaves the
    writing to the first who still waits, so nobody works for others without end.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._pending: list[Chain] = []
        self._is_writing = False
        self._written = asyncio.Event()

    async def until_idle(self) -> None:
        """Return once no write is under way.

        What is made up only then holds all that came meanwhile, and goes out with the next write.
        """
        if self._is_writing:
            await self._written.wait()

    async def publish(self, chain: Chain) -> int:
        """Return the sequence of the chain's last message once it is stored and synced.

        Cancelled before its write began, the chain is not stored.

        Raises:
            ConflictError: ``expected`` is not the subject's last sequence.
            LogFullError: the store takes no more.
            LogUnavailableError: no answer; the chain may or may not be stored. Publishing the
                same payloads again with the same ``expected`` is safe.
        """
        self._pending.append(chain)
        if self._is_writing:
            await self._wait_turn(chain)
        if not chain.is_settled:
            await self._write_until(chain)
        if chain.error is not None:
            raise chain.error
        return chain.last_sequence

    async def publish_together(self, chains: Sequence[Chain]) -> None:
        """Store all chains in one atomic batch; errors as ``publish``, for the whole."""
        await self._write_batch(chains)

    async def _wait_turn(self, chain: Chain) -> None:
        """Return once ``chain`` is settled or it is this caller's turn to write."""
        chain.turn = asyncio.get_running_loop().create_future()
        try:
            await chain.turn
        except asyncio.CancelledError:
            self._forget(chain)
            if chain.turn.done() and not chain.turn.cancelled() and not chain.is_settled:
                self._pass_on()  # the turn came together with the cancellation
            raise

    async def _write_until(self, chain: Chain) -> None:
        """Write what waits, again and again, until ``chain`` is settled."""
        self._is_writing = True
        try:
            while not chain.is_settled:
                await asyncio.sleep(0)  # whoever is about to append comes along
                await self._write_pending()
        finally:
            self._forget(chain)
            self._pass_on()

    def _forget(self, chain: Chain) -> None:
        if chain in self._pending:
            self._pending.remove(chain)

    def _pass_on(self) -> None:
        """Give the writing to the first who waits."""
        self._is_writing = False
        for chain in self._pending:
            if chain.turn is not None and not chain.turn.done():
                self._is_writing = True
                chain.turn.set_result(None)
                return
        self._wake_idle()  # a writer that was cancelled before its write has told nobody

    def _wake_idle(self) -> None:
        """Wake those who wait for the end of a write now, and nobody who comes later."""
        self._written.set()
        self._written.clear()

    async def _write_pending(self) -> None:
        chains = self._take()
        try:
            if len(chains) > 1 and sum(len(chain.payloads) for chain in chains) >= BATCH_LEAST:
                try:
                    await self._write_batch(chains)
                except LogUnavailableError as error:
                    # Nothing is known, and a try of each alone would wait as long again.
                    for chain in chains:
                        chain.error = LogUnavailableError(str(error))
                except LogError as error:  # refused whole because of one
                    log.debug("append.batch_split", chains=len(chains), reason=str(error))
            async with asyncio.TaskGroup() as tasks:
                for chain in chains:
                    if not chain.is_settled:
                        tasks.create_task(self._write_alone(chain))
        finally:
            # Cancelled in mid-write: the others' chains go to whoever writes next.
            self._pending[:0] = [chain for chain in chains if chain.is_wanted]
            for chain in chains:
                if chain.is_settled and chain.turn is not None and not chain.turn.done():
                    chain.turn.set_result(None)
            self._wake_idle()

    def _take(self) -> list[Chain]:
        """Take from the queue what fits one batch; two chains of a subject never share one.

        In the order of arrival, so that nobody is passed over.
        """
        taken: list[Chain] = []
        subjects: set[str] = set()
        messages = size = 0
        for chain in self._pending:
            messages += len(chain.payloads)
            size += sum(map(len, chain.payloads))
            if taken and (messages > BATCH_MOST or size > BATCH_BYTES):
                break
            if chain.subject in subjects:
                break
            subjects.add(chain.subject)
            taken.append(chain)
        del self._pending[: len(taken)]
        return taken

    async def _write_alone(self, chain: Chain) -> None:
        """Settle one chain; a conflict with an "append under way" is no verdict yet."""
        deadline = boot_seconds() + ATTEMPT_S
        while True:
            try:
                if len(chain.payloads) > 1:
                    await self._write_batch([chain])
                else:
                    await self._write_single(chain)
            except _UnderWayError:
                if boot_seconds() > deadline:
                    chain.error = LogUnavailableError(f"{chain.subject} stays busy; try again")
                    return
                await asyncio.sleep(RETRY_S * random.random())  # noqa: S311  # jitter
            except LogError as error:
                chain.error = error
                return
            else:
                return

    async def _write_single(self, chain: Chain) -> None:
        headers = {EXPECTED: str(chain.expected)}
        async with self._answers.expected() as (reply, queue):
            await self._answers.send(chain.subject, chain.payloads[0], reply=reply, headers=headers)
            answer = await receive(queue, chain.subject, ATTEMPT_S)
        chain.last_sequence = _stored_sequence(answer, chain.subject)

    async def _write_batch(self, chains: Sequence[Chain]) -> None:
        batch = new_id()[:16]
        messages = [
            (chain.subject, payload, chain.expected if index == 0 else None)
            for chain in chains
            for index, payload in enumerate(chain.payloads)
        ]
        async with self._answers.expected() as (reply, queue):
            for number, (subject, payload, expected) in enumerate(messages, start=1):
                is_last = number == len(messages)
                headers = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
                if expected is not None:
                    headers[EXPECTED] = str(expected)
                if is_last:
                    headers["Nats-Batch-Commit"] = "1"
                await self._answers.send(
                    subject, payload, reply=reply if is_last else "", headers=headers
                )
            subjects = ", ".join(chain.subject for chain in chains[:3])
            answer = await receive(queue, subjects, ATTEMPT_S + 0.002 * len(messages))
        sequence = _stored_sequence(answer, subjects) - len(messages)
        for chain in chains:
            sequence += len(chain.payloads)
            chain.last_sequence = sequence


class _UnderWayError(ConflictError):
    """Another write on the subject is under way: neither won nor lost."""


def _stored_sequence(answer: Msg, subject: str) -> int:
    """Return the sequence of an acknowledgement, or raise what the server said."""
    if answer.headers and answer.headers.get("Status") == "503":
        raise LogUnavailableError(f"no JetStream serves {subject}")
    document = json.loads(answer.data)
    error = document.get("error")
    if error is None:
        return int(document["seq"])
    match error.get("err_code"):
        case code if code == WRONG_LAST_SEQUENCE:
            raise ConflictError(f"{subject}: {error.get('description')}")
        case code if code == APPEND_UNDER_WAY:
            raise _UnderWayError(f"{subject}: {error.get('description')}")
        case code if code == STORE_FULL:
            raise LogFullError(
                f"the event store is full ({error.get('description')}); make room or raise "
                "MILLSTREAM_MAX_BYTES"
            )
        case code if code in PASSING or error.get("code", 500) >= 500:
            raise LogUnavailableError(f"{subject}: {error.get('description')}")
        case _:
            raise LogError(f"{subject}: {error.get('description')} ({error.get('err_code')})")
