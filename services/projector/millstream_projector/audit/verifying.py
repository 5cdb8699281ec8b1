"""Verifying: the whole log read once, its chain recomputed, its fold compared with the live one."""

import json
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millstream.eventlog.checkpoints import CheckpointLog
from millstream.eventlog.log import EventLog, Head
from millstream.eventlog.redaction import Redactions
from millstream.eventlog.stored import Stored
from millstream.eventlog.whole import read_range
from millstream_projector.audit.checking import FenceCheck
from millstream_projector.audit.digests import SOURCES, table_digest
from millstream_projector.audit.live import LiveTables, behind
from millstream_projector.audit.parts import PartResult, Parts
from millstream_projector.audit.redacted import RedactionCheck, unfolded
from millstream_projector.audit.vouching import Source, Voucher
from millstream_schemas.audit import (
    Checkpoint,
    Digests,
    RowDifference,
    TableDigest,
    TableReport,
    VerifyReport,
)

DIFFERENCES_MOST = 20
AUDIT_STREAM = "the audit stream"
LIVE = "the live tables"

Told = Callable[[int, int], None]
"""Told how many events of how many have been read."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Checkpoints of a file; ``is_binding``: whoever named the file means this very log."""

    name: str
    checkpoints: Sequence[Checkpoint]
    is_binding: bool = False


async def sealed_in_stream(event_log: EventLog) -> Evidence:
    """Return the checkpoints of the audit stream.

    Raises:
        LogError: they can't be read, or one of them is none.
    """
    found: list[Checkpoint] = []
    async with aclosing(CheckpointLog(event_log.answers).after(0)) as pages:
        async for page in pages:
            found.extend(view.checkpoint for view in page)
    return Evidence(AUDIT_STREAM, found)


async def verify(
    event_log: EventLog,
    evidence: Sequence[Evidence],
    live: LiveTables | None,
    directory: Path,
    *,
    steady: Callable[[], float],
    tell: Told,
) -> VerifyReport:
    """Return what became of every comparison; fresh files are made in ``directory``.

    The tables are compared as of the moment ``live`` chose when it made its digests; the chain
    is recomputed up to the log's present end.

    Raises:
        LogError: the log can't be read.
        QueryFailedError: the projector does not answer.
        StoreError: the fresh files take no rows.
    """
    begun = steady()
    redactions = Redactions(event_log)
    await redactions.refresh()
    digests = await live.digests(redactions.last) if live else None
    head = await event_log.head()
    await redactions.refresh()
    sources = [Source(one.name, one.checkpoints, one.is_binding) for one in evidence]
    if digests is not None and digests.as_of:
        sources.append(Source(LIVE, [_as_checkpoint(digests)], is_binding=True))
    voucher = Voucher(sources, stream=head.created)
    fence, erased = FenceCheck(), RedactionCheck(redactions)
    with Parts(directory, events=head.last) as parts:
        until = digests.as_of if digests else head.last
        feed = read_range(event_log, after=0, until=head.last, name="verify", redactions=redactions)
        async with aclosing(feed):
            async for chunk in feed:
                voucher.take(chunk)
                erased.take(chunk)
                for stored in chunk:
                    fence.look(stored)
                await parts.take(_up_to(until, chunk))
                tell(chunk[-1].sequence, head.last)
        _check_erased(redactions, until)
        whole = await parts.finish()
        tables: tuple[TableReport, ...] = ()
        if live is not None and digests is not None:
            tables = await _compare(live, digests, parts, whole)
    whole.findings.merge(fence.findings)
    whole.findings.merge(erased.findings)
    report = _report(voucher, head, digests, tables, whole=whole, seconds=steady() - begun)
    told = {"redacted": erased.redacted, "pending": tuple(erased.pending)}
    return report.model_copy(update=told)


def _up_to(until: int, chunk: list[Stored]) -> list[Stored]:
    if chunk[-1].sequence <= until:
        return chunk
    return [stored for stored in chunk if stored.sequence <= until]


def _check_erased(redactions: Redactions, as_of: int) -> None:
    """Raise QueryFailedError when the tables still hold what the log has erased since."""
    redaction = unfolded(redactions, as_of)
    if redaction is not None:
        raise behind(as_of, redaction)


def _report(
    voucher: Voucher,
    head: Head,
    digests: Digests | None,
    tables: tuple[TableReport, ...],
    *,
    whole: PartResult,
    seconds: float,
) -> VerifyReport:
    chain = voucher.finish(head.last)
    checks = whole.findings.checks()
    is_sound = not (
        any(report.faults for report in chain)
        or voucher.gap_count
        or any(not table.agrees for table in tables)
        or any(check.broken for check in checks)
        or whole.unreadable
    )
    alarm = digests.alarm if digests else None
    return VerifyReport(
        ok=is_sound and alarm is None,
        stream=head.created,
        node=digests.node if digests else None,
        events=voucher.chain.events,
        last_sequence=head.last,
        root=voucher.chain.root.hex(),
        as_of=digests.as_of if digests else head.last,
        chain=chain,
        gaps=tuple(voucher.gaps),
        tables=tables,
        checks=checks,
        alarm=alarm,
        unreadable=whole.unreadable,
        unknown=whole.unknown,
        seconds=round(seconds, 3),
    )


def _as_checkpoint(digests: Digests) -> Checkpoint:
    """Return the root that the live tables stand for as a checkpoint."""
    return Checkpoint.model_validate(
        {
            "stream": digests.stream,
            "from_sequence": 1,
            "to_sequence": digests.as_of,
            "events": digests.events,
            "root": digests.root,
            "previous_root": "0" * 64,
            "node": digests.node,
            "sealed_at": "1970-01-01T00:00:00Z",
        }
    )


async def _compare(
    live: LiveTables, digests: Digests, parts: Parts, whole: PartResult
) -> tuple[TableReport, ...]:
    reports = []
    for table in SOURCES:
        fresh = table_digest(whole.tables.get(table, {}))
        theirs = digests.tables.get(table, TableDigest(rows=0, digest=""))
        report = TableReport(
            table=table,
            live_rows=theirs.rows,
            log_rows=fresh.rows,
            agrees=fresh.digest == theirs.digest,
        )
        if not report.agrees:
            report = await _differences(live, digests, parts, report, buckets=(fresh, theirs))
        reports.append(report)
    return tuple(reports)


async def _differences(
    live: LiveTables,
    digests: Digests,
    parts: Parts,
    report: TableReport,
    *,
    buckets: tuple[TableDigest, TableDigest],
) -> TableReport:
    """Return the report of a differing table with its differing rows."""
    fresh, theirs = (table.buckets for table in buckets)
    table, until = report.table, digests.as_of
    keys: list[str] = []
    for bucket in sorted(fresh.keys() | theirs.keys()):
        if fresh.get(bucket) == theirs.get(bucket):
            continue
        ours = await parts.hashes(table, bucket)
        others = await live.hashes(table, bucket, until)
        keys += [key for key in ours.keys() | others.keys() if ours.get(key) != others.get(key)]
    shown = sorted(keys, key=_natural)[:DIFFERENCES_MOST]
    ours = await parts.texts(table, shown)
    others = await live.texts(table, shown, until)
    return report.model_copy(
        update={
            "differing": len(keys),
            "differences": tuple(
                RowDifference(key=key, live=_row(others.get(key)), log=_row(ours.get(key)))
                for key in shown
            ),
        }
    )


def _natural(key: str) -> tuple[int, int | str]:
    return (0, int(key)) if key.isdigit() else (1, key)


def _row(text: str | None) -> dict[str, Any] | None:
    return None if text is None else json.loads(text)
