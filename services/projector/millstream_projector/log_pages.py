"""A batch's events as they were stored, page by page: samples' payloads are not stored twice.

A page of some types alone may find little in much. So it ends after a time too, with a cursor to go
on from where it is: whoever asks sees how far that is, and ends it by not asking again.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from millstream.eventlog.log import EventLog
from millstream.eventlog.redaction import batch_history
from millstream.eventlog.stored import Stored
from millstream.runtime.clock import boot_seconds
from millstream_projector.changes import as_json
from millstream_projector.views.paging import no_such_batch
from millstream_schemas import subjects, views
from millstream_schemas.events import CONTROL_TYPES, NOTE_TYPES

STEP_S = 0.25
"""How long a page looks for events of some types before it ends with what it has."""
AROUND_BYTES = 200
"""What stands around an event's payload in an answer, at most."""


class LogPages:
    """Reads the log itself for whoever asks for events."""

    def __init__(self, event_log: EventLog) -> None:
        self._event_log = event_log

    async def answer(self, request: views.EventsQuery, as_of: int, most_bytes: int) -> bytes:
        """Return the body of EventPage, of what was stored up to ``as_of``.

        Raises:
            RefusedError: there is no such batch.
        """
        found, cursor = await self._page(request, as_of, most_bytes)
        is_unseen = not found and cursor is None and not request.after
        if is_unseen and not await self._has_begun(request.batch_id, as_of):
            raise no_such_batch(request.batch_id)
        next_cursor = None if cursor is None else str(cursor)
        return as_json({"events": found, "next_cursor": next_cursor, "as_of": as_of}).encode()

    async def _has_begun(self, batch_id: str, as_of: int) -> bool:
        """Tell whether a batch has any event by ``as_of``; one without a note has others."""
        first = await self._event_log.after(subjects.control(batch_id), 0)
        return first is not None and first.sequence <= as_of

    async def _page(
        self, request: views.EventsQuery, until: int, most_bytes: int
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Return the events of a page, and the sequence after which there may be more."""
        found: list[dict[str, Any]] = []
        wanted = frozenset(request.types)
        size = 0
        end_s = boot_seconds() + STEP_S
        async with aclosing(self._history(request, until)) as stretches:
            async for stretch in stretches:
                for stored in stretch:
                    document = _document(stored.payload)
                    if wanted and document.get("type") not in wanted:
                        continue
                    size += len(stored.payload) + AROUND_BYTES
                    if len(found) == request.limit or (found and size > most_bytes):
                        return found, stored.sequence - 1
                    found.append(_view(stored, document))
                if wanted and boot_seconds() >= end_s:
                    return found, stretch[-1].sequence
        return found, None

    def _history(
        self, request: views.EventsQuery, until: int
    ) -> AsyncGenerator[list[Stored], None]:
        batch_id, after = _token(request.batch_id), request.after
        subject = _subject(request, batch_id)
        if subject is None:
            return batch_history(self._event_log, batch_id, after=after, until=until)
        return self._event_log.history(subject, after=after, until=until)


def _subject(request: views.EventsQuery, batch_id: str) -> str | None:
    """Return the one subject that has all that is asked for; None where that may be on any."""
    types = frozenset(request.types)
    if request.kind == "control" or (types and types <= CONTROL_TYPES):
        return subjects.control(batch_id)
    if request.kind == "note" or (types and types <= NOTE_TYPES):
        return subjects.note(batch_id)
    return None


def _view(stored: Stored, document: dict[str, Any]) -> dict[str, Any]:
    return {
        "sequence": stored.sequence,
        "stored_at": stored.stored_at,
        "subject": stored.subject,
        "event": document,
    }


def _token(batch_id: str) -> str:
    """Return ``batch_id`` if it can stand in a subject; a wildcard would read other batches."""
    if not batch_id or any(sign in " .*>\t\r\n" for sign in batch_id):
        raise no_such_batch(batch_id)
    return batch_id


def _document(payload: bytes) -> dict[str, Any]:
    """Return a stored payload as it is; what is not a JSON object is shown as text."""
    try:
        document = json.loads(payload)
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document
    return {"unreadable": payload.decode("utf-8", "replace")[:2000]}
