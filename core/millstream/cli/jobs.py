"""Reaching a read model for a job: a projector that runs, or else the file of a directory."""

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from millstream.cli.lock import DirectoryLock
from millstream.cli.services import service_command
from millstream.cli.statefile import await_leftovers, is_running, read_state
from millstream.errors import MillstreamError, QueryFailedError, UsageError
from millstream.eventlog.connection import connected
from millstream.eventlog.log import EventLog
from millstream.jobs.client import Job, local_job, served_job
from millstream.jobs.process import JobOrder, running_job
from millstream.runtime.logs import configure_logs
from millstream.runtime.settings import Settings, load_settings
from millstream_schemas.exports import JobRequest

READ_MODEL = "views.duckdb"
WRONG_USAGE = frozenset({"invalid", "not_found"})
INTERRUPTED = 130

Use = Callable[[Job], Awaitable[int]]


def run_job(name: str, nats: str | None, data: Path | None, request: JobRequest, use: Use) -> int:
    """Run a job and ``use`` it; its exit code, or 1 when it failed and 2 for wrong usage."""

    async def run() -> int:
        async with _job(nats, data, request) as job:
            return await use(job)

    try:
        # Notes about the connection are not for whoever reads one answer.
        configure_logs(load_settings(log_level="error"), "job")
        return asyncio.run(run())
    except KeyboardInterrupt:
        sys.stderr.write(f"millstream {name}: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read this has seen enough
        return 0
    except OSError as error:
        sys.stderr.write(f"millstream {name}: {error}\n")
        return 1
    except MillstreamError as error:
        sys.stderr.write(f"millstream {name}: {error}\n")
        is_wrong = isinstance(error, UsageError) or (
            isinstance(error, QueryFailedError) and error.code in WRONG_USAGE
        )
        return 2 if is_wrong else 1


@contextlib.asynccontextmanager
async def _job(nats: str | None, data: Path | None, request: JobRequest) -> AsyncIterator[Job]:
    settings = load_settings(nats_url=nats, data_dir=data)
    state = read_state(settings.data_dir)
    served = None
    if nats is not None or "MILLSTREAM_NATS_URL" in os.environ:
        served = settings
    elif state is not None and is_running(state):
        served = settings.model_copy(update={"nats_url": str(state["nats_url"])})
    if served is not None:
        async with (
            connected(served, "job") as connection,
            served_job(EventLog(connection).answers, request) as job,
        ):
            yield job
        return
    async with _file_job(settings, request) as job:
        yield job


@contextlib.asynccontextmanager
async def _file_job(settings: Settings, request: JobRequest) -> AsyncIterator[Job]:
    """Read the file itself: nothing runs on its directory, and nothing may start meanwhile."""
    source = settings.data_dir / READ_MODEL
    if not source.is_file():
        raise UsageError(
            f"--data {settings.data_dir} holds no read model and no `millstream up` runs on it;"
            " name the right directory with --data, or a server with --nats",
            field="data",
            value=str(settings.data_dir),
        )
    lock = DirectoryLock(settings.data_dir)
    lock.acquire()
    try:
        await_leftovers(settings.data_dir)
        with tempfile.TemporaryDirectory(dir=settings.data_dir, prefix="job-") as directory:
            order = JobOrder(
                request=request, source=str(source), directory=str(Path(directory) / "job")
            )
            async with running_job(service_command("job"), order) as process:
                yield await local_job(process)
    finally:
        lock.release()
