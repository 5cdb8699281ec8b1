"""`python -m millstream_projector.audit.verify`: compares log and tables; exit code 1 if unlike.

A process apart from the projector, which alone can open the live file: what that holds is asked
for over NATS. Without a projector the file itself is opened, when it is here.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvloop

from millstream.errors import MillstreamError, QueryFailedError, UsageError
from millstream.eventlog.checkpoints import FILE, read_checkpoints
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.runtime.clock import boot_seconds
from millstream.runtime.logs import configure_logs
from millstream.runtime.settings import Settings, load_settings
from millstream_projector import opening
from millstream_projector.audit.live import FileTables, LiveTables, ServedTables
from millstream_projector.audit.printing import Progress, printed
from millstream_projector.audit.verifying import Evidence, sealed_in_stream, verify
from millstream_schemas.audit import VerifyReport

NO_PROJECTOR = (
    "no projector answers and there is no read model in {directory}: start one, or verify the log"
    " alone with --log-only"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify as the command line says; returns the exit code."""
    options = _options(arguments)
    try:
        settings = load_settings()
        configure_logs(settings.model_copy(update={"log_level": "error"}), "verify")
        report = uvloop.run(_verify(settings, options))
    except MillstreamError as error:
        sys.stderr.write(f"millstream audit verify: {error}\n")
        return 2 if isinstance(error, UsageError) else 1
    text = report.model_dump_json(indent=2) if options.json else printed(report)
    sys.stdout.write(text + "\n")
    return 0 if report.ok else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="millstream audit verify")
    parser.add_argument("--from-file", type=Path, action="append", default=[])
    parser.add_argument("--log-only", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


async def _verify(settings: Settings, options: argparse.Namespace) -> VerifyReport:
    evidence = _files(settings, options.from_file)
    async with connected(settings, "audit") as connection:
        event_log = EventLog(connection)
        evidence.insert(0, await sealed_in_stream(event_log))
        live = None if options.log_only else await _live(settings, event_log)
        progress = Progress(sys.stderr)
        with tempfile.TemporaryDirectory(prefix="millstream-verify-") as directory, progress:
            return await verify(
                event_log,
                evidence,
                live,
                Path(directory),
                steady=boot_seconds,
                tell=progress.tell,
            )


def _files(settings: Settings, named: Sequence[Path]) -> list[Evidence]:
    own = settings.data_dir / FILE
    found = [Evidence(str(path), read_checkpoints(path)[0], is_binding=True) for path in named]
    if own.exists() and own not in named:
        found.append(Evidence(str(own), read_checkpoints(own)[0]))
    return found


async def _live(settings: Settings, event_log: EventLog) -> LiveTables:
    served = ServedTables(event_log.answers)
    if await served.is_there():
        return served
    path = settings.data_dir / opening.FILE
    if not path.exists():
        raise QueryFailedError("unavailable", NO_PROJECTOR.format(directory=settings.data_dir))
    return FileTables(path)


if __name__ == "__main__":
    sys.exit(main())
