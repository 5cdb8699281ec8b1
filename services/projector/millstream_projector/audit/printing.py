"""A verification in words, and its progress on a terminal."""

import json
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TextIO

from millstream_schemas.audit import ChainReport, RowDifference, TableReport, VerifyReport

VALUE_MOST = 120

Changed = tuple[str, Any, Any]
"""A field, live and by the log."""


class Progress:
    """One line on a terminal that tells how far the reading is; nothing elsewhere."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._percent = -1
        self._is_shown = out.isatty()

    def __enter__(self) -> Self:
        """Return the progress itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Clear the line."""
        if self._percent >= 0:
            self._out.write("\r\x1b[K")
            self._out.flush()

    def tell(self, read: int, last: int) -> None:
        """Show that ``read`` events of ``last`` have been read."""
        percent = read * 100 // max(last, 1)
        if self._is_shown and percent != self._percent:
            self._percent = percent
            self._out.write(f"\rverifying {read:,} of {last:,} events ({percent} %)")
            self._out.flush()


def printed(report: VerifyReport) -> str:
    """Return the report for a person; its last line is the verdict."""
    return "\n".join(_lines(report))


def _lines(report: VerifyReport) -> Iterator[str]:
    yield f"log      {report.events:,} events up to sequence {report.last_sequence:,}"
    yield f"root     {report.root}"
    for chain in report.chain:
        yield from _chain(chain)
    for gap in report.gaps:
        yield f"  WRONG  the log lacks {gap}: removed, or lost by the store"
    yield from _redactions(report)
    for table in report.tables:
        yield from _table(table, report.as_of)
    if report.node is None:
        yield "tables   not compared"
    for check in report.checks:
        verdict = f"WRONG, {check.broken:,} times" if check.broken else "holds"
        yield f"rule     {check.title}: {verdict}"
        yield from (f"         {example}" for example in check.examples)
    if report.unreadable:
        yield f"  WRONG  {report.unreadable:,} messages are no events"
    if report.unknown:
        yield f"note     {report.unknown:,} events are of a newer version's types"
    if report.alarm is not None:
        yield f"  WRONG  the projector says: {report.alarm.words}"
    yield (
        f"{'verified' if report.ok else 'NOT VERIFIED: see what is WRONG above'}"
        f" ({report.seconds:.1f} s)"
    )


def _redactions(report: VerifyReport) -> Iterator[str]:
    if report.redacted:
        yield f"note     {report.redacted:,} messages were erased; redactions stand for them"
    for sequence in report.pending:
        yield (
            f"note     message {sequence:,} is redacted but not deleted yet: run"
            " `millstream audit redact` on its batch again"
        )


def _chain(chain: ChainReport) -> Iterator[str]:
    yield (
        f"chain    {chain.agreed:,} of {chain.compared + chain.ahead:,} checkpoints of"
        f" {chain.source} agree, up to {chain.agreed_to:,}"
    )
    if chain.foreign:
        yield f"note     {chain.foreign:,} checkpoints of {chain.source} are of another stream"
    yield from (f"  WRONG  {fault}" for fault in chain.faults)


def _table(table: TableReport, as_of: int) -> Iterator[str]:
    verdict = (
        "as folded from the log" if table.agrees else f"WRONG, {table.differing:,} rows differ"
    )
    rows = f"{table.live_rows:,} rows"
    if table.live_rows != table.log_rows:
        rows += f" ({table.log_rows:,} in the log)"
    yield f"table    {table.table} at {as_of:,}: {rows}, {verdict}"
    for difference in table.differences:
        yield from _difference(difference)


def _difference(difference: RowDifference) -> Iterator[str]:
    live, log = difference.live, difference.log
    if live is None or log is None:
        yield f"         {difference.key}: only in the {'log' if live is None else 'live table'}"
        return
    for name, before, after in _changed(live, log):
        words = f"{name} is {_short(before)} live, {_short(after)} by the log"
        yield f"         {difference.key}: {words}"


def _changed(live: dict[str, Any], log: dict[str, Any], prefix: str = "") -> Iterator[Changed]:
    """Yield the fields that differ; within a field that is JSON itself, those that differ there."""
    for name in dict.fromkeys((*live, *log)):
        before, after = live.get(name), log.get(name)
        if before == after:
            continue
        inner, other = _document(before), _document(after)
        if inner is not None and other is not None:
            yield from _changed(inner, other, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", before, after


def _document(value: Any) -> dict[str, Any] | None:
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, dict) else None


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= VALUE_MOST else text[: VALUE_MOST - 1] + "…"
