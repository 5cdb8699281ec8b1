"""Redactions of a log in memory, as the admin's command would append them."""

import base64
import json
from collections.abc import Sequence
from typing import Any

from millstream.domain.recorded import microseconds
from millstream.domain.redaction import erased
from millstream.eventlog.chain import payload_hash
from millstream.eventlog.redaction import stand_ins_of
from millstream.eventlog.stored import StandIn, Stored
from millstream.testing.histories import ENVELOPE
from millstream.testing.tape import BEGIN
from millstream_schemas import events, subjects
from millstream_schemas.redactions import RedactedMessage, SampleRedacted


def redaction(
    stored: Stored, at: int, slots: Sequence[int], *, attempts: bool = True, **target: Any
) -> Stored | None:
    """Return the redaction of ``slots`` in ``stored``, as message ``at``; None without a text."""
    left = erased(json.loads(stored.payload), slots, attempts=attempts)
    if left is None:
        return None
    batch_id = stored.subject.split(".")[2]
    message = RedactedMessage(
        sequence=stored.sequence,
        subject=stored.subject,
        time_us=stored.time_us,
        headers=base64.b64encode(stored.headers).decode(),
        payload_hash=payload_hash(stored).hex(),
        event=left.document,
    ).model_copy(update=target)
    event = SampleRedacted(
        **{**ENVELOPE, "batch_id": batch_id, "subject": subjects.redaction(batch_id)},
        slots=left.slots,
        target=message,
        erased=left.fields,
        silences=tuple(slots) if attempts else (),
        reason="asked for",
    )
    return Stored(at, microseconds(BEGIN), event.subject, events.dump(event), b"Nats-X: 1")


def redacted(log: list[Stored], slots: Sequence[int], *, attempts: bool) -> list[Stored]:
    """Return a log with redactions at its end, and stand-ins where they point."""
    whole = list(log)
    for stored in log:
        if isinstance(stored, StandIn):
            continue  # its redaction holds what there is to erase
        made = redaction(stored, len(whole) + 1, slots, attempts=attempts)
        if made is not None:
            whole.append(made)
    for stored in whole[len(log) :]:
        for found in stand_ins_of(stored):
            whole[found.sequence - 1] = found
    return whole
