"""Erasing texts from the log: redactions first, then exactly the messages that they name.

What is killed in between is healed by doing it again: a message that a redaction names and that
is still there is deleted before anything else.
"""

import base64
import json
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import orjson

from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.decide import Stamp
from millstream.domain.redaction import Erased, erased, holds
from millstream.errors import LogError, UsageError
from millstream.eventlog.chain import payload_hash
from millstream.eventlog.log import EventLog
from millstream.eventlog.redaction import Redactions, batch_history
from millstream.eventlog.stored import StandIn, Stored, decode
from millstream_schemas import subjects
from millstream_schemas.redactions import RedactedMessage, SampleRedacted
from millstream_schemas.slices import SliceReleased, SliceState

NOT_FOUND = 10043
TAIL_REASON = "the slice's last event is erased: this one tells its state"


@dataclass(frozen=True, slots=True)
class Target:
    """A message to erase: the whole of it, and what is left."""

    stored: Stored
    left: Erased


@dataclass(frozen=True, slots=True)
class Redacted:
    """One erased message, and the redaction that stands for it."""

    sequence: int
    slots: tuple[int, ...]
    erased: tuple[str, ...]
    redaction: int


@dataclass(slots=True)
class Outcome:
    """What was done: new redactions, and older ones whose message was still there."""

    redacted: list[Redacted] = field(default_factory=list)
    completed: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Batch:
    """A batch as read for a redaction; ``last`` is the last message of each subject."""

    state: BatchState
    stored: list[Stored] = field(default_factory=list)
    last: dict[str, Stored] = field(default_factory=dict)


async def redact(
    event_log: EventLog,
    batch_id: str,
    slots: Collection[int],
    stamp: Stamp,
    *,
    reason: str,
    attempts: bool,
) -> Outcome:
    """Erase the texts of ``slots`` from the log and return what was erased.

    With ``attempts`` also rejected answers and the messages of errors. Doing it again erases
    nothing more, and completes what was cut off.

    Raises:
        UsageError: there is no such batch, it has not ended, or a slot is not one of its.
        LogRefusedError: the NATS user may not; nothing was erased.
        LogError: the log did not answer, or somebody else wrote to the batch; do it again.
    """
    outcome = Outcome(completed=await complete(event_log, batch_id))
    batch = await _read(event_log, batch_id)
    _check(batch.state, batch_id, slots)
    targets = _targets(batch.stored, slots, attempts=attempts)
    await _restate_tails(event_log, batch, targets, stamp)
    subject = subjects.redaction(batch_id)
    newest = await event_log.last(subject)
    expected = newest.sequence if newest else 0
    for target in targets:
        event = _redaction(target, batch_id, stamp, reason, slots if attempts else ())
        expected = await event_log.append(event, expected=expected)
        await delete(event_log, target.stored.sequence)
        left = target.left
        outcome.redacted.append(Redacted(target.stored.sequence, left.slots, left.fields, expected))
    return outcome


async def complete(event_log: EventLog, batch_id: str) -> list[int]:
    """Delete what the batch's redactions name and is still there; return the sequences.

    Raises:
        LogError: a redaction names a message that is another than it says, or the log refuses.
    """
    redactions = Redactions(event_log, subjects.redaction(batch_id))
    await redactions.refresh()
    done = []
    for made in redactions.between(1, redactions.last):
        found = await event_log.after(made.subject, made.sequence - 1)
        if found is None or found.sequence != made.sequence:
            continue
        if payload_hash(found) != made.payload_hash:
            raise LogError(
                f"redaction {made.redacted_by} names message {made.sequence}, but with another"
                " payload than it has; nothing was deleted: run `millstream audit verify`"
            )
        await delete(event_log, made.sequence)
        done.append(made.sequence)
    return done


async def containing(
    event_log: EventLog, batch_id: str, text: str
) -> AsyncGenerator[tuple[Stored, int], None]:
    """Yield each message of a batch whose texts hold ``text``, in any case, and its slot.

    Raises:
        LogUnavailableError: the log does not answer.
    """
    pages = batch_history(event_log, batch_id)
    async with aclosing(pages):
        async for page in pages:
            for stored in page:
                document = _document(stored)
                slot = document.get("slot")
                if isinstance(slot, int) and holds(document, text):
                    yield stored, slot


async def delete(event_log: EventLog, sequence: int) -> None:
    """Delete a message and overwrite its bytes; one that is gone already is no error.

    Raises:
        LogRefusedError: the NATS user may not.
        LogError: the server refuses.
    """
    body = json.dumps({"seq": sequence, "no_erase": False}).encode()
    name = f"$JS.API.STREAM.MSG.DELETE.{subjects.EVENTS}"
    document = json.loads((await event_log.answers.ask(name, body)).data)
    error = document.get("error")
    if error is not None and error.get("err_code") != NOT_FOUND:
        raise LogError(f"message {sequence} can't be deleted: {error.get('description')}")


async def _read(event_log: EventLog, batch_id: str) -> _Batch:
    batch = _Batch(BatchState(batch_id))
    pages = batch_history(event_log, batch_id)
    async with aclosing(pages):
        async for page in pages:
            for stored in page:
                if not isinstance(stored, StandIn):
                    batch.stored.append(stored)
                    batch.last[stored.subject] = stored
                recorded = decode(stored)
                if recorded is not None:
                    batch.state = apply(batch.state, recorded)
    return batch


def _check(state: BatchState, batch_id: str, slots: Collection[int]) -> None:
    if state.started is None:
        raise UsageError(
            f"BATCH={batch_id[:80]!r} is not in the log; `millstream batch list` shows the ids",
            field="BATCH",
            value=batch_id,
        )
    if not state.is_final:
        raise UsageError(
            f"BATCH={batch_id!r} is {state.state}: nodes read its events to go on; stop it, or"
            " wait until it has ended",
            field="BATCH",
            value=batch_id,
        )
    for slot in slots:
        if not 0 <= slot < state.spec.target:
            raise UsageError(
                f"SLOT={slot} is none of the batch; its slots are 0 to {state.spec.target - 1}",
                field="SLOT",
                value=slot,
            )


def _targets(stored: Sequence[Stored], slots: Collection[int], *, attempts: bool) -> list[Target]:
    found = ((item, erased(_document(item), slots, attempts=attempts)) for item in stored)
    return [Target(item, left) for item, left in found if left is not None]


async def _restate_tails(
    event_log: EventLog, batch: _Batch, targets: Sequence[Target], stamp: Stamp
) -> None:
    """Append each slice's state again where the event that tells it is erased.

    Whoever reads the last event of a slice must find the state after all of them; a fence on the
    event that is erased makes sure that it was the last.
    """
    for target in targets:
        stored = target.stored
        place = subjects.parse_slice(stored.subject)
        if place is None or batch.last[stored.subject] is not stored:
            continue
        after = SliceState.model_validate(target.left.document["after"])
        event = SliceReleased(
            **stamp.envelope(batch.state.batch_id, stored.subject),
            slice=place[1],
            after=after,
            reason=TAIL_REASON,
        )
        await event_log.append(event, expected=stored.sequence)


def _redaction(
    target: Target, batch_id: str, stamp: Stamp, reason: str, silences: Collection[int]
) -> SampleRedacted:
    stored, left = target.stored, target.left
    return SampleRedacted(
        **stamp.envelope(batch_id, subjects.redaction(batch_id)),
        slots=left.slots,
        target=RedactedMessage(
            sequence=stored.sequence,
            subject=stored.subject,
            time_us=stored.time_us,
            headers=base64.b64encode(stored.headers).decode(),
            payload_hash=payload_hash(stored).hex(),
            event=left.document,
        ),
        erased=left.fields,
        silences=tuple(sorted(silences)),
        reason=reason,
    )


def _document(stored: Stored) -> dict[str, object]:
    try:
        document = orjson.loads(stored.payload)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}
