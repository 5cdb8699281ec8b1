"""Import: an export appended to an empty log, each event at its own sequence, then read back."""

import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from millstream.errors import LogError, LogUnavailableError, UsageError
from millstream.eventlog.answers import Answers, receive
from millstream.eventlog.archive import bad_export, check_export, read_export
from millstream.eventlog.chain import ChainState, extend
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import IMPORTED, StandIn, Stored, imported_header
from millstream.eventlog.whole import read_range
from millstream.runtime.clock import new_id
from millstream_schemas import subjects
from millstream_schemas.audit import ExportManifest

BATCH_MOST = 500
BATCH_BYTES = 1_000_000
ATTEMPT_S = 10.0
HOLES_MOST = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Told = Callable[[int, int], None]


async def import_file(event_log: EventLog, path: Path, *, tell: Told) -> ExportManifest:
    """Append an export to a log that is empty, and read it back; return its manifest.

    ``tell`` is told how many events of how many have been appended.

    Raises:
        UsageError: the export is not sound or of one batch only, or the log is not empty.
        LogError: the log refused, or somebody else appended meanwhile.
    """
    manifest = check_export(path)
    if manifest.batch_id is not None:
        raise bad_export(path, f"it holds batch {manifest.batch_id} alone")
    head = await event_log.head()
    if head.last:
        raise UsageError(
            f"the log has {head.last} events already; an import needs an empty one (a new"
            " directory, named with --data)",
            field="log",
            value=head.last,
        )
    holes = manifest.last_sequence - manifest.count
    if holes > HOLES_MOST:
        raise bad_export(
            path, f"it lacks {holes} sequences, more than the {HOLES_MOST} that can be kept"
        )
    writer = _Importer(event_log)
    for found in read_export(path):
        # What was erased is left out here as there: its redaction comes with the rest.
        if isinstance(found, Stored) and not isinstance(found, StandIn):
            await writer.add(found)
            tell(writer.written, manifest.count)
    await writer.flush()
    tell(writer.written, manifest.count)
    await writer.fill_to(manifest.last_sequence)
    await _check_log(event_log, manifest)
    return manifest


async def _check_log(event_log: EventLog, manifest: ExportManifest) -> None:
    chain = ChainState()
    head = await event_log.head()
    async with contextlib.aclosing(
        read_range(event_log, after=0, until=head.last, name="import")
    ) as feed:
        async for chunk in feed:
            chain = extend(chain, chunk)
    if (head.last, chain.root.hex()) != (manifest.last_sequence, manifest.root):
        raise LogError(
            f"the log came to root {chain.root.hex()} at {head.last}, not to {manifest.root} at"
            f" {manifest.last_sequence}: somebody else wrote to it; import into another directory"
        )


class _Importer:
    """Appends events at their own sequences, in atomic batches, each behind the one before."""

    def __init__(self, event_log: EventLog) -> None:
        self.written = 0
        self._log = event_log
        self._last = 0
        self._waiting: list[Stored] = []
        self._size = 0

    async def add(self, stored: Stored) -> None:
        """Take one more event; it is written with those around it."""
        expected = self._waiting[-1].sequence if self._waiting else self._last
        if stored.sequence != expected + 1:
            await self.flush()
            await self.fill_to(stored.sequence - 1)
        self._waiting.append(stored)
        self._size += len(stored.payload) + len(stored.headers)
        if len(self._waiting) >= BATCH_MOST or self._size >= BATCH_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Write what waits; a lost answer is resolved by the log's end."""
        if not self._waiting:
            return
        last = self._waiting[-1].sequence
        try:
            acknowledged = await _write(self._log.answers, self._waiting, self._last)
        except LogUnavailableError:
            acknowledged = (await self._log.head()).last
            if acknowledged == self._last:
                acknowledged = await _write(self._log.answers, self._waiting, self._last)
        if acknowledged != last:
            raise LogError(
                f"the log is at {acknowledged} instead of {last}: somebody else wrote to it;"
                " stop all services and import into another directory"
            )
        self.written += len(self._waiting)
        self._last, self._waiting, self._size = last, [], 0

    async def fill_to(self, sequence: int) -> None:
        """Leave out the sequences up to ``sequence``, as the log that was exported did."""
        while self._last < sequence:
            filler = Stored(self._last + 1, 0, f"{subjects.EVENTS_PREFIX}system.hole", b"")
            await _write(self._log.answers, [filler], self._last)
            body = json.dumps({"seq": filler.sequence, "no_erase": True}).encode()
            name = f"$JS.API.STREAM.MSG.DELETE.{subjects.EVENTS}"
            document = json.loads((await self._log.answers.ask(name, body)).data)
            if "error" in document:
                raise LogError(f"sequence {filler.sequence}: {document['error']['description']}")
            self._last = filler.sequence


async def _write(answers: Answers, items: list[Stored], last: int) -> int:
    """Append ``items`` behind sequence ``last``, all or none; return the log's last sequence."""
    batch = new_id()[:16]
    async with answers.expected() as (reply, queue):
        for number, stored in enumerate(items, start=1):
            headers = {IMPORTED: imported_header(stored)}
            if number == 1:
                headers["Nats-Expected-Last-Sequence"] = str(last)
            if len(items) > 1:
                headers |= {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
                if number == len(items):
                    headers["Nats-Batch-Commit"] = "1"
            is_last = number == len(items)
            await answers.send(
                stored.subject, stored.payload, reply=reply if is_last else "", headers=headers
            )
        answer = await receive(queue, items[-1].subject, ATTEMPT_S)
    document = json.loads(answer.data)
    if "error" in document:
        raise LogError(
            f"the log refused the events up to {items[-1].sequence}:"
            f" {document['error'].get('description')}"
        )
    return int(document["seq"])
