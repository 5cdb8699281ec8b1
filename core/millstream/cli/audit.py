"""What `millstream audit` does: it reads the log itself, and asks projectors for the rest."""

import asyncio
import dataclasses
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import typer

from millstream.cli.batch import print_answer
from millstream.cli.display import batch_lines
from millstream.cli.moments import BatchAt, Deed, batch_at, batch_at_each, parse_moment
from millstream.cli.reach import reached
from millstream.cli.services import service_command
from millstream.domain.digest import view_digest
from millstream.errors import LogUnavailableError, MillstreamError, QueryFailedError, UsageError
from millstream.eventlog.answers import Answers
from millstream.eventlog.archive import export_file
from millstream.eventlog.checkpoints import CheckpointLog
from millstream.eventlog.importing import import_file
from millstream.eventlog.log import EventLog
from millstream.eventlog.nodes import Nodes
from millstream.eventlog.refusals import read_refusals, refusal_line
from millstream.runtime.logs import configure_logs
from millstream.runtime.settings import Settings, load_settings
from millstream_schemas import subjects
from millstream_schemas.audit import ExportManifest, RebuildQuery, RebuildStatus

POLL_S = 0.5
ASK_S = 5.0
SILENT_MOST = 20
"""Unanswered questions in a row, after which a projector in mid-swap counts as gone."""

Work = Callable[[Settings, EventLog], Awaitable[int]]


def on_log(
    name: str, nats: str | None, data: Path | None, work: Work, *, makes_store: bool = False
) -> int:
    """Run ``work`` on the log; its exit code, or 1 when it failed and 2 for wrong usage."""

    async def run() -> int:
        async with reached(nats, data, makes_store=makes_store) as (settings, event_log):
            return await work(settings, event_log)

    try:
        # Notes about the connection are not for whoever reads one answer.
        configure_logs(load_settings(log_level="error"), "audit")
        return asyncio.run(run())
    except MillstreamError as error:
        sys.stderr.write(f"millstream audit {name}: {error}\n")
        return 2 if isinstance(error, UsageError) else 1


def run_verify(
    nats: str | None, data: Path | None, files: Sequence[Path], *, log_only: bool, as_json: bool
) -> int:
    """Run the verifier, which is the projector's, in a process of its own."""
    arguments = [word for path in files for word in ("--from-file", str(path))]
    arguments += ["--log-only"] if log_only else []
    arguments += ["--json"] if as_json else []

    async def work(settings: Settings, _event_log: EventLog) -> int:
        where = {
            "MILLSTREAM_NATS_URL": settings.nats_url,
            "MILLSTREAM_DATA_DIR": str(settings.data_dir),
        }
        process = await asyncio.create_subprocess_exec(
            *service_command("audit-verify", arguments), env={**os.environ, **where}
        )
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()

    return on_log("verify", nats, data, work)


def run_rebuild(nats: str | None, data: Path | None, *, as_json: bool) -> int:
    """Have one projector rebuild its read model, and wait until it has."""

    async def work(_settings: Settings, event_log: EventLog) -> int:
        status = await ask_rebuild(event_log.answers, subjects.QUERIES, start=True)
        if not as_json:
            typer.echo(f"projector {status.node} folds the log anew; it answers meanwhile")
        status = await rebuilt(event_log.answers, status)
        words = f"projector {status.node} has its new read model, at {status.as_of:,}"
        if status.state != "done":
            words = f"projector {status.node} keeps its old read model: {status.message}"
        print_answer(status.model_dump(mode="json"), words, as_json=as_json)
        return 0 if status.state == "done" else 1

    return on_log("rebuild", nats, data, work)


async def rebuilt(answers: Answers, status: RebuildStatus) -> RebuildStatus:
    """Return how a rebuild ended; raises QueryFailedError when its projector is gone."""
    silent = 0
    while status.state in {"running", "swapping"}:
        await asyncio.sleep(POLL_S)
        try:
            status = await ask_rebuild(answers, status.address, start=False)
            silent = 0
        except QueryFailedError:  # while it swaps nobody answers
            silent += 1
            if silent > SILENT_MOST:
                raise
    return status


async def ask_rebuild(answers: Answers, address: str, *, start: bool) -> RebuildStatus:
    """Ask the projector at ``address`` how far it is; raises QueryFailedError without one."""
    body = RebuildQuery(start=start).model_dump_json().encode()
    try:
        answer = await answers.ask(f"{address}.audit_rebuild", body, timeout_s=ASK_S)
    except LogUnavailableError as error:
        raise QueryFailedError(
            "unavailable",
            "no projector answers; start one (`millstream projector`): without a file in its"
            " data directory it folds the log anew by itself",
        ) from error
    return RebuildStatus.model_validate_json(answer.data)


def run_show(
    nats: str | None, data: Path | None, batch_id: str, *, at: str | None, as_json: bool
) -> int:
    """Print a batch as it was, and the commands on it that were refused by then."""

    async def work(_settings: Settings, event_log: EventLog) -> int:
        moment = parse_moment(at)
        seen = await batch_at(event_log, batch_id, moment)
        view = seen.view.model_dump(mode="json")
        found = read_refusals(event_log, batch_id=batch_id, includes=moment.includes)
        refused = [refusal async for refusal in found]
        digest = view_digest(seen.view)
        lines = [
            f"as of          {_place(seen)}",
            f"digest         {digest}",
            *batch_lines(view),
            *map(refusal_line, refused),
        ]
        document = {
            "batch": view,
            "as_of": seen.as_of,
            "digest": digest,
            "refused": [refusal.model_dump(mode="json") for refusal in refused],
        }
        print_answer(document, "\n".join(lines), as_json=as_json)
        return 0

    return on_log("show", nats, data, work)


def run_diff(
    nats: str | None, data: Path | None, batch_id: str, *, between: tuple[str, str], as_json: bool
) -> int:
    """Print what changed in a batch between two moments."""

    async def work(_settings: Settings, event_log: EventLog) -> int:
        first, second = (parse_moment(text) for text in between)
        a, b = await batch_at_each(event_log, batch_id, (first, second))
        if a.as_of > b.as_of:
            a, b = b, a
        before, after = a.view.model_dump(mode="json"), b.view.model_dump(mode="json")
        changed = {
            name: [before[name], after[name]] for name in after if before[name] != after[name]
        }
        types = {name: count for name, count in (b.types - a.types).items() if count}
        deeds = b.deeds[len(a.deeds) :]
        document = {
            "batch_id": batch_id,
            "from": a.as_of,
            "to": b.as_of,
            "changed": changed,
            "events": types,
            "deeds": [
                {**dataclasses.asdict(deed), "time": deed.time.isoformat()} for deed in deeds
            ],
        }
        lines = [f"from           {_place(a)}", f"to             {_place(b)}"]
        lines += [f"{name:<14} {_was(old)} -> {_was(new)}" for name, (old, new) in changed.items()]
        lines += [f"{count:>8,} x {name}" for name, count in sorted(types.items())]
        lines += [_deed_line(deed) for deed in deeds]
        print_answer(document, "\n".join(lines), as_json=as_json)
        return 0

    return on_log("diff", nats, data, work)


def run_export(
    nats: str | None,
    data: Path | None,
    file: Path,
    *,
    batch_id: str | None,
    at: int | None,
    as_json: bool,
) -> int:
    """Write an export and print its manifest."""

    async def work(_settings: Settings, event_log: EventLog) -> int:
        if batch_id is not None:
            await batch_at(event_log, batch_id, parse_moment(None))
        manifest = await export_file(event_log, file, batch_id=batch_id, at=at)
        words = f"{manifest.count:,} events in {file}, root {manifest.root}"
        _print_manifest(manifest, words, as_json=as_json)
        return 0

    return on_log("export", nats, data, work)


def run_import(nats: str | None, data: Path | None, file: Path, *, as_json: bool) -> int:
    """Bring an export into an empty log and print its manifest."""
    shows = sys.stderr.isatty()

    def tell(written: int, total: int) -> None:
        if shows:
            sys.stderr.write(f"\r{written:,} of {total:,} events\x1b[K")
            sys.stderr.flush()

    async def work(_settings: Settings, event_log: EventLog) -> int:
        busy = sorted(
            {beat.service for beat in await Nodes(event_log.answers).live()} - {"projector"}
        )
        if busy:
            raise UsageError(
                f"services run on this log ({', '.join(busy)}) and would write to it; stop them"
                " first",
                field="nats",
            )
        manifest = await import_file(event_log, file, tell=tell)
        if shows:
            sys.stderr.write("\r\x1b[K")
        words = f"{manifest.count:,} events imported and read back, root {manifest.root}"
        _print_manifest(manifest, words, as_json=as_json)
        return 0

    return on_log("import", nats, data, work, makes_store=True)


def run_checkpoints(nats: str | None, data: Path | None, *, limit: int, as_json: bool) -> int:
    """Print the newest checkpoints of the audit stream, the oldest of them first."""

    async def work(_settings: Settings, event_log: EventLog) -> int:
        found = await CheckpointLog(event_log.answers).newest(limit)
        alarms = {
            f"{beat.service} {beat.node}": beat.alarm
            for beat in await Nodes(event_log.answers).live()
            if beat.alarm
        }
        lines = [
            f"{one.to_sequence:>12,}  {one.root}  {one.sealed_at:%Y-%m-%d %H:%M:%S} by {one.node}"
            for one in (view.checkpoint for view in found)
        ]
        lines += [f"ALARM of {who}: {words}" for who, words in alarms.items()]
        document = {
            "checkpoints": [view.model_dump(mode="json") for view in found],
            "alarms": alarms,
        }
        print_answer(document, "\n".join(lines) or "No checkpoints yet.", as_json=as_json)
        return 1 if alarms else 0

    return on_log("checkpoints", nats, data, work)


def _print_manifest(manifest: ExportManifest, words: str, *, as_json: bool) -> None:
    print_answer(manifest.model_dump(mode="json"), words, as_json=as_json)


def _place(seen: BatchAt) -> str:
    return f"sequence {seen.as_of:,}, {seen.time:%Y-%m-%d %H:%M:%S} UTC"


def _deed_line(deed: Deed) -> str:
    where = f" from {deed.address}" if deed.address else ""
    why = f" ({deed.reason})" if deed.reason else ""
    return f"{deed.sequence:>12,}  {deed.time:%H:%M:%S}  {deed.type} by {deed.actor}{where}{why}"


def _was(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items() if inner) or "none"
    return "none" if value is None else str(value)
