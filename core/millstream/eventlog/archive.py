"""Export and import: the raw events as JSON lines, with a manifest that they must add up to.

An imported event keeps its sequence; a header of ours carries its time and its own headers, and
every reader unwraps it. So the tables and the hash chain of a system that a log was imported into
are those of the system that it came from.
"""

import base64
import contextlib
import os
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import orjson
from pydantic import ValidationError

from millstream.domain.recorded import moment
from millstream.errors import QueryFailedError, UsageError
from millstream.eventlog.chain import ChainState, extend
from millstream.eventlog.log import EventLog
from millstream.eventlog.redaction import batch_history, erased_by, lacks_its_texts, stand_ins_of
from millstream.eventlog.stored import StandIn, Stored
from millstream.eventlog.whole import read_range
from millstream.runtime.clock import utc_now
from millstream_schemas import subjects
from millstream_schemas.audit import ExportedEvent, ExportManifest


async def export_lines(
    event_log: EventLog, *, batch_id: str | None = None, at: int | None = None
) -> AsyncGenerator[bytes, None]:
    """Yield the lines of an export of the log as it is now, its manifest last.

    Each piece holds whole lines. Use under ``aclosing``. An export as of sequence ``at`` has the
    same bytes each time, unless a text in it is erased: its manifest's time is that of its last
    event.

    Raises:
        LogUnavailableError: the log does not answer.
        QueryFailedError: there is no such batch.
        UsageError: the log does not reach to ``at``, or the batch has no event by then.
    """
    head = await event_log.head()
    if at is not None and at > head.last:
        raise UsageError(
            f"at_seq={at} lies beyond the log's end, which is at {head.last}; leave it out",
            field="at_seq",
            value=str(at),
        )
    end = head.last if at is None else at
    chain, first, pinned_at = ChainState(), 0, moment(0)
    if batch_id is None:
        feed = read_range(event_log, after=0, until=end, name="export")
    else:
        feed = batch_history(event_log, batch_id, until=end)
    async with contextlib.aclosing(feed):
        async for chunk in feed:
            first = first or chunk[0].sequence
            chain = extend(chain, chunk)
            pinned_at = chunk[-1].stored_at
            yield b"".join(map(export_line, chunk))
    if batch_id is not None and not chain.events:
        raise await _without_events(event_log, batch_id, at)
    manifest = ExportManifest(
        stream=head.created,
        batch_id=batch_id,
        count=chain.events,
        first_sequence=first,
        last_sequence=chain.sequence if batch_id else end,
        root=chain.root.hex(),
        exported_at=utc_now() if at is None else pinned_at,
    )
    yield manifest.model_dump_json().encode() + b"\n"


async def _without_events(
    event_log: EventLog, batch_id: str, at: int | None
) -> QueryFailedError | UsageError:
    """Return why a batch has no events to export as of ``at``."""
    if at is None or await event_log.after(subjects.control(batch_id), 0) is None:
        words = f"batch_id={batch_id[:80]!r} is of no batch in the log"
        return QueryFailedError("not_found", words)
    return UsageError(
        f"at_seq={at} lies before the first event of batch {batch_id}; give a later one,"
        " or leave it out",
        field="at_seq",
        value=str(at),
    )


async def export_file(
    event_log: EventLog, path: Path, *, batch_id: str | None = None, at: int | None = None
) -> ExportManifest:
    """Write an export, as ``export_lines``; the file appears once it is whole.

    Returns:
        Its manifest.

    Raises:
        LogUnavailableError: the log does not answer.
        UsageError: the file can't be written; or as ``export_lines``.
    """
    draft = path.with_name(f"{path.name}.part")
    line = b""
    try:
        with draft.open("wb") as out:
            lines = export_lines(event_log, batch_id=batch_id, at=at)
            async with contextlib.aclosing(lines):
                async for line in lines:
                    out.write(line)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(path)
    except OSError as error:
        raise UsageError(
            f"FILE={path} can't be written ({error.strerror}); name another place",
            field="FILE",
            value=str(path),
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return ExportManifest.model_validate_json(line)


def read_export(path: Path) -> Iterator[Stored | ExportManifest]:
    """Yield the events of an export and then its manifest, each line checked by itself.

    Raises:
        UsageError: a line is not an export's, or the file ends before its manifest.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                found = _parse(line, path, number)
                is_end = isinstance(found, ExportManifest)
                if is_end and next(lines, None) is not None:
                    raise bad_export(path, f"line {number + 1} follows the manifest")
                yield found
                if is_end:
                    return
    except OSError as error:
        raise bad_export(path, f"it can't be read ({error.strerror})") from error
    raise bad_export(path, "it ends before its manifest, so a part is missing")


def check_export(path: Path) -> ExportManifest:
    """Return the manifest of an export whose lines add up to it.

    Raises:
        UsageError: they don't; the message says what differs.
    """
    chain, first, last = ChainState(), 0, 0
    erased = _Erased()
    for found in read_export(path):
        if isinstance(found, Stored):
            if found.sequence <= last:
                raise bad_export(path, f"sequence {found.sequence} comes after {last}")
            first, last = first or found.sequence, found.sequence
            chain = extend(chain, (found,))
            erased.take(found)
            continue
        if (words := erased.contradiction(found.last_sequence)) is not None:
            raise bad_export(path, words)
        if (chain.events, first) != (found.count, found.first_sequence):
            raise bad_export(
                path,
                f"it holds {chain.events} events from {first} on, but its manifest tells of"
                f" {found.count} from {found.first_sequence} on",
            )
        if chain.root.hex() != found.root:
            raise bad_export(
                path,
                f"its events have the root {chain.root.hex()}, but its manifest says"
                f" {found.root}: an event was changed or moved",
            )
        return found
    raise bad_export(path, "it has no manifest")


class _Erased:
    """The stand-ins of an export for which no redaction in it vouches.

    One that holds something else than its redaction says has none. The page's mirror is
    ``services/dashboard/src/replay/check.ts``.
    """

    def __init__(self) -> None:
        self._open: dict[int, tuple[StandIn, int]] = {}
        """Each with the sequence of the redaction that would vouch for it."""

    def take(self, found: Stored) -> None:
        """Take the next event."""
        if isinstance(found, StandIn):
            self._open[found.sequence] = (found, found.redacted_by)
        for made in stand_ins_of(found):
            named, _ = self._open.get(made.sequence, (None, 0))
            if named != made:
                continue
            if isinstance(found, StandIn):
                # A redaction that was redacted vouches for as much as vouches for itself.
                self._open[made.sequence] = (made, found.redacted_by)
            else:
                del self._open[made.sequence]

    def contradiction(self, end: int) -> str | None:
        """Return what is wrong in an export that ends at sequence ``end``, None for nothing."""
        unnamed = [
            sequence
            for sequence, (made, by) in self._open.items()
            if by <= end or not lacks_its_texts(made)
        ]
        if unnamed:
            return f"no redaction vouches for sequence {min(unnamed)}, which it says was erased"
        if not self._open:
            return None
        sequence = min(self._open)
        _, by = self._open[sequence]
        return (
            f"it says that the text of sequence {sequence} was erased after its end, which is"
            f" {end}, and nothing in it vouches for what is left: export it up to sequence {by}"
        )


def export_line(stored: Stored) -> bytes:
    """Return an event as a line of an export."""
    document: dict[str, object] = {
        "sequence": stored.sequence,
        "time_us": stored.time_us,
        "subject": stored.subject,
        "headers": base64.b64encode(stored.headers).decode(),
    }
    try:
        document["payload"] = stored.payload.decode()
    except UnicodeDecodeError:
        document["payload"] = base64.b64encode(stored.payload).decode()
        document["is_base64"] = True
    if isinstance(stored, StandIn):
        document["payload_hash"] = stored.payload_hash.hex()
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def _parse(line: bytes, path: Path, number: int) -> Stored | ExportManifest:
    try:
        if b'"millstream.export.v1"' in line[:200] and line.startswith(b'{"kind"'):
            return ExportManifest.model_validate_json(line)
        event = ExportedEvent.model_validate_json(line)
        payload = event.payload.encode()
        if event.is_base64:
            payload = base64.b64decode(payload, validate=True)
        headers = base64.b64decode(event.headers, validate=True)
        moment(event.time_us)  # it must be a time
    except (ValidationError, ValueError, OverflowError) as error:
        words = str(error).splitlines()[0]
        raise bad_export(path, f"line {number} is no line of an export ({words})") from error
    place = (event.sequence, event.time_us, event.subject, payload, headers)
    if event.payload_hash is not None:
        return StandIn(*place, bytes.fromhex(event.payload_hash), erased_by(payload))
    return Stored(*place)


def bad_export(path: Path, words: str) -> UsageError:
    """Return the refusal of a file that is no sound export."""
    return UsageError(
        f"FILE={path} can't be imported: {words}; give a whole export as `millstream audit export`"
        " wrote it",
        field="FILE",
        value=str(path),
    )
