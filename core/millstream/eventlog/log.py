"""The event log: append events behind a fence, read them back.

Leader reads (``last``, ``after``, ``slice_subjects``) see every acknowledged append. Direct
reads (``history``, ``tails``) may come from a follower that lags; they serve history and folds
that are proven by a compare-and-set afterwards.
"""

import asyncio
import base64
import json
import random
import re
import zlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from millstream.domain.recorded import microseconds
from millstream.errors import ConflictError, LogError, LogFullError, LogUnavailableError
from millstream.eventlog.answers import Answers, receive
from millstream.eventlog.log_time import LogTime
from millstream.eventlog.publisher import Chain, Publisher
from millstream.eventlog.reserve import Fill, Reserve
from millstream.eventlog.stored import Stored, from_headers, parse_time, stored_message
from millstream.runtime.clock import boot_seconds
from millstream_schemas import events, subjects
from millstream_schemas.envelope import BATCH_ID_PATTERN, BatchEvent, Event

PAGE = 1000
PAGE_BYTES = 8_000_000
TAILS_PER_REQUEST = 1000
"""Direct get refuses more than 1,024 subjects."""
REQUEST_S = 2.0
RETRY_S = 0.1


@dataclass(frozen=True, slots=True)
class Head:
    """The bounds of the stream and when it was created (which tells one stream from another)."""

    first: int
    last: int
    created: str

    @property
    def epoch(self) -> str:
        """Eight hex characters that change when the stream is made anew."""
        return f"{zlib.crc32(self.created.encode()):08x}"


class EventLog:
    """One connection's access to the event stream."""

    def __init__(self, connection: Client) -> None:
        self.connection = connection
        self.answers = Answers(connection)
        self.time = LogTime()
        """The log's time, measured with each look at the stream (``head``, ``fill``)."""
        self._publisher = Publisher(self.answers)
        self._reserve = Reserve(self.fill)

    async def append(self, event: Event, *, expected: int, bound_s: float = 10.0) -> int:
        """Append one event after ``expected`` on its subject and return its sequence.

        Raises as ``append_chain``, and LogFullError for what the reserve of the store is not for.
        """
        await self._reserve.admit(event, len(events.dump(event)))
        return await self.append_chain([event], expected=expected, bound_s=bound_s)

    async def append_chain(
        self, chain: Sequence[Event], *, expected: int, bound_s: float = 10.0
    ) -> int:
        """Append events of one subject, together or not at all; return the last sequence.

        Lost answers are resolved: the first message after ``expected`` tells who won, and the
        event's random id tells whether that was us. So repeating is safe and nothing is doubled.

        Raises:
            ConflictError: somebody else appended after ``expected``.
            LogFullError: the store takes no more.
            LogUnavailableError: no verdict within ``bound_s`` seconds.
        """
        subject = chain[0].subject
        payloads = [events.dump(event) for event in chain]
        deadline = boot_seconds() + bound_s
        while True:
            try:
                return await self._publisher.publish(Chain(subject, payloads, expected))
            except (ConflictError, LogFullError):
                first = await self._winner(subject, expected, deadline)
                if first is None or _id(first.payload) != chain[0].id:
                    raise
                return first.sequence + len(chain) - 1
            except LogUnavailableError:
                if boot_seconds() > deadline:
                    raise
                await asyncio.sleep(RETRY_S * (1 + random.random()))  # noqa: S311  # jitter

    async def until_idle(self) -> None:
        """Return once no append of this connection is under way: the next one waits for nobody."""
        await self._publisher.until_idle()

    async def append_together(self, chains: Sequence[tuple[BatchEvent, int]]) -> int:
        """Append events of different subjects in one atomic batch; return the last sequence.

        At most 1,000. Raises as ``append_chain``; after any error read again before repeating.
        """
        parts = [Chain(event.subject, [events.dump(event)], expected) for event, expected in chains]
        await self._publisher.publish_together(parts)
        return parts[-1].last_sequence

    async def _winner(self, subject: str, expected: int, deadline: float) -> Stored | None:
        while True:
            try:
                return await self.after(subject, expected)
            except LogUnavailableError:
                if boot_seconds() > deadline:
                    raise
                await asyncio.sleep(RETRY_S * (1 + random.random()))  # noqa: S311  # jitter

    async def last(self, subject: str) -> Stored | None:
        """Return the last message of ``subject`` as its leader has it."""
        return await self._leader_get({"last_by_subj": subject})

    async def after(self, subject: str, sequence: int) -> Stored | None:
        """Return the first message of ``subject`` after ``sequence`` as its leader has it."""
        return await self._leader_get({"seq": sequence + 1, "next_by_subj": subject})

    async def begun_at(self, batch_id: str) -> int | None:
        """Return the sequence of a batch's first event, None for one that was never started."""
        if re.fullmatch(BATCH_ID_PATTERN, batch_id) is None:
            return None
        first = await self.after(subjects.control(batch_id), 0)
        return None if first is None else first.sequence

    async def head(self) -> Head:
        """Return the stream's bounds."""
        document = await self._stream_info({})
        state = document["state"]
        return Head(state["first_seq"], state["last_seq"], document["created"])

    async def fill(self) -> Fill:
        """Return how much the store uses, and its bound."""
        document = await self._stream_info({})
        return _fill(document)

    async def slice_subjects(self, batch_id: str) -> list[str]:
        """Return the subjects of all slices that have an event, as the leader knows them."""
        found: list[str] = []
        while True:
            document = await self._stream_info(
                {"subjects_filter": subjects.all_slices(batch_id), "offset": len(found)}
            )
            page = document["state"].get("subjects") or {}
            found.extend(page)
            if len(found) >= document.get("total", 0) or not page:
                return found

    async def tails(self, batch_id: str) -> dict[int, Stored]:
        """Return the last message of every slice that has one, by slice index."""
        names = await self.slice_subjects(batch_id)
        found = await self.last_of(names)
        tails: dict[int, Stored] = {}
        for name, stored in found.items():
            parsed = subjects.parse_slice(name)
            if parsed is not None:
                tails[parsed[1]] = stored
        missing = len(names) - len(tails)
        if missing:
            raise LogUnavailableError(f"{missing} slice tails of {batch_id} are not replicated yet")
        return tails

    async def last_of(self, names: Sequence[str], *, until: int | None = None) -> dict[str, Stored]:
        """Return the last message of each subject that has one, at ``until`` or before it."""
        bound = {} if until is None else {"up_to_seq": until}
        found: dict[str, Stored] = {}
        for start in range(0, len(names), TAILS_PER_REQUEST):
            wanted = set(names[start : start + TAILS_PER_REQUEST])
            while wanted:
                # An answer ends early when it grows too large; the rest is asked for again.
                page, _ = await self._direct_get(
                    {"multi_last": sorted(wanted), "max_bytes": PAGE_BYTES, **bound}
                )
                found.update((stored.subject, stored) for stored in page)
                before = len(wanted)
                wanted.difference_update(stored.subject for stored in page)
                if len(wanted) == before:
                    break
        return found

    async def deleted(self) -> list[int]:
        """Return the sequences that are missing between the stream's first and last one."""
        document = await self._stream_info({"deleted_details": True})
        found: list[int] = document["state"].get("deleted") or []
        return found

    async def page(
        self, subject_filter: str, *, after: int, most: int = PAGE, most_bytes: int = PAGE_BYTES
    ) -> tuple[list[Stored], int]:
        """Return the next messages after ``after``, and how many the stream has beyond them."""
        return await self._direct_get(
            {
                "seq": after + 1,
                "batch": most,
                "max_bytes": most_bytes,
                "next_by_subj": subject_filter,
            }
        )

    async def history(
        self, subject_filter: str, *, after: int = 0, until: int | None = None
    ) -> AsyncGenerator[list[Stored], None]:
        """Yield pages of stored messages in order, up to ``until`` or the present end."""
        left = 1
        while left:
            page, left = await self.page(subject_filter, after=after)
            if until is not None and page and page[-1].sequence > until:
                page = [stored for stored in page if stored.sequence <= until]
                left = 0
            if not page:
                return
            yield page
            after = page[-1].sequence

    async def _direct_get(self, request: dict[str, Any]) -> tuple[list[Stored], int]:
        """Return the messages of one answer, and how many the stream has beyond them."""
        subject = f"$JS.API.DIRECT.GET.{subjects.EVENTS}"
        found: list[Stored] = []
        async with self.answers.expected() as (reply, queue):
            await self.answers.send(subject, json.dumps(request).encode(), reply=reply)
            while True:
                message = await receive(queue, subject, REQUEST_S)
                headers = message.headers or {}
                status = headers.get("Status")
                if status is None:
                    found.append(from_headers(headers, message.data))
                elif status in {"204", "404"}:
                    return found, int(headers.get("Nats-Num-Pending", "0"))
                else:
                    raise LogUnavailableError(f"direct get refused: {_status(message)}")

    async def _leader_get(self, request: dict[str, Any]) -> Stored | None:
        document = await self._api(f"STREAM.MSG.GET.{subjects.EVENTS}", request, absent=10037)
        if document is None:
            return None
        message = document["message"]
        _, _, raw = base64.b64decode(message.get("hdrs", "")).partition(b"\r\n")
        return stored_message(
            message["seq"],
            microseconds(parse_time(message["time"])),
            message["subject"],
            base64.b64decode(message.get("data", "")),
            raw,
        )

    async def _stream_info(self, request: dict[str, Any]) -> dict[str, Any]:
        asked_s = boot_seconds()
        document = await self._api(f"STREAM.INFO.{subjects.EVENTS}", request)
        if document is None:
            raise LogError(f"stream {subjects.EVENTS} gave no information")
        self.time.note(parse_time(document["ts"]), asked_s=asked_s, heard_s=boot_seconds())
        self._reserve.note(_fill(document))
        return document

    async def _api(
        self, name: str, request: dict[str, Any], *, absent: int | None = None
    ) -> dict[str, Any] | None:
        payload = json.dumps(request).encode()
        answer = await self.answers.ask(f"$JS.API.{name}", payload, timeout_s=REQUEST_S)
        document: dict[str, Any] = json.loads(answer.data)
        error = document.get("error")
        if error is None:
            return document
        if error.get("err_code") == absent:
            return None
        raise LogUnavailableError(f"{name}: {error.get('description')} ({error.get('err_code')})")


def in_order(tails: dict[int, Stored]) -> list[Stored]:
    """Return tails as they were stored: what is "last" in a fold depends on it."""
    return sorted(tails.values(), key=lambda stored: stored.sequence)


def _fill(document: dict[str, Any]) -> Fill:
    return Fill(document["state"]["bytes"], max(0, document["config"]["max_bytes"]))


def _id(payload: bytes) -> str | None:
    document = json.loads(payload)
    return document.get("id") if isinstance(document, dict) else None


def _status(message: Msg) -> str:
    headers = message.headers or {}
    return f"{headers.get('Status')} {headers.get('Description', '')}".strip()
