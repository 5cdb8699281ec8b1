"""What `millstream audit redact` does: it finds texts in the log, and erases them."""

import getpass
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from millstream.cli.audit import ask_rebuild, on_log, rebuilt
from millstream.cli.batch import print_answer
from millstream.domain.decide import Stamp
from millstream.errors import QueryFailedError, UsageError
from millstream.eventlog.answers import Answers
from millstream.eventlog.log import EventLog
from millstream.eventlog.nodes import Nodes
from millstream.eventlog.redacting import Outcome, containing, redact
from millstream.runtime.clock import new_id, utc_now
from millstream.runtime.settings import Settings
from millstream_schemas import subjects
from millstream_schemas.audit import RebuildStatus
from millstream_schemas.envelope import Actor

REASON_MOST = 500
ASKED_EACH = 20
"""Questions to the group of projectors for each of them, until all have answered one."""
REMAINS = (
    "Projectors answer without the texts from now on. Their files may hold the old bytes in freed"
    " blocks until `millstream audit rebuild` (or --rebuild here); exports, backups and"
    " snapshots made before hold them for good: docs/audit.md, Erasure."
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asks for."""

    slots: tuple[int, ...]
    reason: str
    attempts: bool
    rebuild: bool

    def check(self) -> None:
        """Raise UsageError for what can't be carried out."""
        if not self.slots:
            raise UsageError(
                "SLOT is missing; name the slots, which --contains TEXT finds", field="SLOT"
            )
        if not 0 < len(self.reason) <= REASON_MOST:
            raise UsageError(
                f"--reason {self.reason[:80]!r} is not valid; say in 1 to {REASON_MOST} characters"
                " why, without what is to be erased",
                field="reason",
                value=self.reason,
            )


def run_find(
    nats: str | None, data: Path | None, batch_id: str, text: str, *, as_json: bool
) -> int:
    """Print the messages of a batch that hold a text, by slot."""

    async def work(_settings: Settings, event_log: EventLog) -> int:
        _check_id(batch_id)
        if not text:
            raise UsageError("--contains '' is not valid; give a text", field="contains", value="")
        rows: list[dict[str, Any]] = []
        async with aclosing(containing(event_log, batch_id, text)) as found:
            async for stored, slot in found:
                rows.append(
                    {"sequence": stored.sequence, "slot": slot, "type": _type(stored.payload)}
                )
        slots = sorted({row["slot"] for row in rows})
        lines = [f"{row['sequence']:>12,}  slot {row['slot']:,}  {row['type']}" for row in rows]
        lines.append(f"Slots: {' '.join(map(str, slots)) or 'none'}")
        print_answer({"messages": rows, "slots": slots}, "\n".join(lines), as_json=as_json)
        return 0

    return on_log("redact", nats, data, work)


def run_redact(
    nats: str | None, data: Path | None, batch_id: str, wanted: Wanted, *, as_json: bool
) -> int:
    """Erase the texts of slots; print what was erased, and what may be left."""

    async def work(_settings: Settings, event_log: EventLog) -> int:
        _check_id(batch_id)
        wanted.check()
        outcome = await redact(
            event_log,
            batch_id,
            set(wanted.slots),
            _stamp(),
            reason=wanted.reason,
            attempts=wanted.attempts,
        )
        states, failure = await _rebuilt(event_log.answers) if wanted.rebuild else ([], "")
        document = {
            "batch_id": batch_id,
            "redacted": [asdict(one) for one in outcome.redacted],
            "completed": outcome.completed,
            "rebuilt": {status.node: status.state for status in states},
            "failure": failure,
        }
        lines = [
            *_lines(outcome),
            *(f"projector {one.node}: {one.state}" for one in states),
            *([f"not rebuilt: {failure}"] if failure else []),
            REMAINS,
        ]
        print_answer(document, "\n".join(lines), as_json=as_json)
        is_done = not failure and all(status.state == "done" for status in states)
        return 0 if is_done else 1

    return on_log("redact", nats, data, work)


def _lines(outcome: Outcome) -> list[str]:
    lines = [f"{sequence:>12,}  deleted: it was redacted before" for sequence in outcome.completed]
    lines += [
        f"{one.sequence:>12,}  slot {', '.join(map(str, one.slots))}: {', '.join(one.erased)}"
        f" erased by redaction {one.redaction:,}"
        for one in outcome.redacted
    ]
    return lines or ["Nothing to erase: those slots hold no text (any more)."]


async def _rebuilt(answers: Answers) -> tuple[list[RebuildStatus], str]:
    """Return how the rebuilds ended, and why there are none; the texts are erased already."""
    try:
        return await _rebuild_each(answers), ""
    except QueryFailedError as error:
        return [], str(error)


async def _rebuild_each(answers: Answers) -> list[RebuildStatus]:
    """Have every projector that lives make its file anew, one after the other."""
    beats = await Nodes(answers).live()
    count = max(1, sum(beat.service == "projector" for beat in beats))
    addresses: set[str] = set()
    for _ in range(ASKED_EACH * count):
        status = await ask_rebuild(answers, subjects.QUERIES, start=False)
        addresses.add(status.address)
        if len(addresses) == count:
            break
    return [
        await rebuilt(answers, await ask_rebuild(answers, address, start=True))
        for address in sorted(addresses)
    ]


def _stamp() -> Stamp:
    return Stamp(
        new_id=new_id,
        time=utc_now(),
        actor=Actor(kind="user", id=getpass.getuser()),
        source="/millstream/audit",
        command_id=new_id(),
    )


def _check_id(batch_id: str) -> None:
    if not batch_id or any(sign in " .*>\t\r\n" for sign in batch_id):
        raise UsageError(
            f"BATCH={batch_id[:80]!r} is no id of a batch; `millstream batch list` shows them",
            field="BATCH",
            value=batch_id,
        )


def _type(payload: bytes) -> str:
    return str(orjson.loads(payload).get("type", ""))
