"""Redactions as readers meet them: a missing message that one of them names is filled by it.

Whoever reads the log in order gets a stand-in at the place of an erased message: the same event
without its texts, at the same sequence, with all that the hash chain covers. A missing sequence
that no redaction names stays missing, and is the finding that it always was.
"""

import base64
import binascii
from bisect import bisect_left, bisect_right
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import orjson

from millstream.domain.recorded import moment
from millstream.domain.redaction import are_erased
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import StandIn, Stored
from millstream_schemas import subjects
from millstream_schemas.events import MalformedEventError, UnknownEventError, parse
from millstream_schemas.redactions import SampleRedacted

MARK = "redacted"
"""The field of a stand-in's payload that tells which redaction it is of, and what is missing."""
_SUFFIX = ".redaction"


def is_redaction(stored: Stored) -> bool:
    """Tell whether a message stands where redactions do."""
    return stored.subject.endswith(_SUFFIX)


def read_redaction(stored: Stored) -> SampleRedacted | None:
    """Return the redaction that a message is, None for any other."""
    if not is_redaction(stored):
        return None
    try:
        event = parse(stored.payload)
    except (MalformedEventError, UnknownEventError):
        return None
    return event if isinstance(event, SampleRedacted) else None


def stand_in(stored: Stored, event: SampleRedacted) -> StandIn | None:
    """Return what a redaction puts in the place of the message it names.

    None for one that stands on a subject where services may write, or names a message of
    another batch or one that comes after it.
    """
    target = event.target
    own = subjects.redaction(event.batch_id)
    is_of_batch = target.subject.startswith(f"{subjects.EVENTS_PREFIX}{event.batch_id}.")
    if stored.subject != own or not is_of_batch or target.sequence >= stored.sequence:
        return None
    try:
        headers = base64.b64decode(target.headers, validate=True)
        moment(target.time_us)  # it must be a time
    except (binascii.Error, ValueError, OverflowError):
        return None
    mark = {"by": stored.sequence, "erased": event.erased, "reason": event.reason}
    return StandIn(
        target.sequence,
        target.time_us,
        target.subject,
        orjson.dumps({**target.event, MARK: mark}),
        headers,
        bytes.fromhex(target.payload_hash),
        stored.sequence,
    )


def read_mark(payload: bytes) -> dict[str, Any]:
    """Return what a stand-in's payload says of its redaction; empty for one that says nothing."""
    try:
        mark = orjson.loads(payload)[MARK]
    except (ValueError, LookupError, TypeError):
        return {}
    return mark if isinstance(mark, dict) else {}


def erased_by(payload: bytes) -> int:
    """Return the sequence of the redaction that a stand-in's payload says it is of, 0 for none."""
    by = read_mark(payload).get("by")
    return by if isinstance(by, int) else 0


def lacks_its_texts(made: StandIn) -> bool:
    """Tell whether a stand-in holds marks where it says that texts were erased."""
    fields = read_mark(made.payload).get("erased")
    return isinstance(fields, list) and are_erased(orjson.loads(made.payload), fields)


def stand_ins_of(stored: Stored) -> list[StandIn]:
    """Return what stands for what by one message: more than one when it redacts a redaction."""
    found: list[StandIn] = []
    event = read_redaction(stored)
    while event is not None:
        made = stand_in(stored, event)
        if made is None:
            break
        found.append(made)
        stored, event = made, read_redaction(made)
    return found


class Redactions:
    """Every redaction of the log, or of one batch, by the sequence that it names."""

    def __init__(self, event_log: EventLog, subject_filter: str = subjects.ALL_REDACTIONS) -> None:
        self._log = event_log
        self._filter = subject_filter
        self._read_to = 0
        self._found: dict[int, StandIn] = {}
        self._order: list[int] = []

    @property
    def last(self) -> int:
        """Sequence of the last redaction, as of the last refresh; 0 for none."""
        return self._read_to

    async def refresh(self) -> None:
        """Read what was added; the leader has the last word, since followers may lag.

        Raises:
            LogUnavailableError: the log does not answer.
        """
        pages = self._log.history(self._filter, after=self._read_to)
        async with aclosing(pages):
            async for page in pages:
                for stored in page:
                    self._add(stored)
        while (newer := await self._log.after(self._filter, self._read_to)) is not None:
            self._add(newer)
        self._order = sorted(self._found)

    def _add(self, stored: Stored) -> None:
        self._read_to = stored.sequence
        for made in stand_ins_of(stored):
            self._found[made.sequence] = made

    def get(self, sequence: int) -> StandIn | None:
        """Return what stands for the message at ``sequence``, as of the last refresh."""
        return self._found.get(sequence)

    def between(self, first: int, last: int) -> list[StandIn]:
        """Return the stand-ins of ``first`` to ``last`` in order, as of the last refresh."""
        order = self._order
        chosen = order[bisect_left(order, first) : bisect_right(order, last)]
        return [self._found[sequence] for sequence in chosen]

    async def missing(self, first: int, last: int) -> list[StandIn]:
        """Return the stand-ins of a gap; raises as ``refresh``."""
        found = self.between(first, last)
        if len(found) <= last - first:
            await self.refresh()
            found = self.between(first, last)
        return found

    async def fill(self, chunk: Sequence[Stored], after: int) -> list[Stored]:
        """Return messages that follow ``after`` with the stand-ins of what is missing."""
        whole: list[Stored] = []
        for stored in chunk:
            if stored.sequence > after + 1:
                whole += await self.missing(after + 1, stored.sequence - 1)
            whole.append(stored)
            after = stored.sequence
        return whole


async def filled(
    feed: AsyncGenerator[list[Stored], None], redactions: Redactions, *, after: int
) -> AsyncGenerator[list[Stored], None]:
    """Yield what ``feed`` yields of the whole log after ``after``, with stand-ins in its gaps.

    A log without a gap costs one subtraction a list. Use under ``aclosing``.

    Raises:
        LogUnavailableError: there is a gap, and the log does not answer.
    """
    async with aclosing(feed):
        async for chunk in feed:
            found = chunk
            if chunk and chunk[-1].sequence - after != len(chunk):
                found = await redactions.fill(chunk, after)
            if chunk:
                after = chunk[-1].sequence
            yield found


async def batch_history(
    event_log: EventLog, batch_id: str, *, after: int = 0, until: int | None = None
) -> AsyncGenerator[list[Stored], None]:
    """Yield pages of a batch's events with stand-ins for those that were erased.

    Use under ``aclosing``.

    Raises:
        LogUnavailableError: the log does not answer.
    """
    redactions = Redactions(event_log, subjects.redaction(batch_id))
    await redactions.refresh()
    end = 2**63 if until is None else until
    pages = event_log.history(subjects.all_of_batch(batch_id), after=after, until=until)
    async with aclosing(pages):
        async for page in pages:
            last = page[-1].sequence
            present = {stored.sequence for stored in page}
            missing = [
                made for made in redactions.between(after + 1, last) if made.sequence not in present
            ]
            yield sorted([*page, *missing], key=_sequence) if missing else page
            after = last
    rest: list[Stored] = [*redactions.between(after + 1, end)]
    if rest:
        yield rest


def _sequence(stored: Stored) -> int:
    return stored.sequence
