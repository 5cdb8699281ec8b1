"""Making the read model anew beside the old one, which answers until the new one takes its place.

The fold runs in a child process, since two of them in one would halve the live one's speed. Once
the child has come to the log's end, the projector closes its file, puts the new one in its place
with one rename, and goes on there: queries wait about a second. A crash at any point leaves
the old file or the new one, whole; what a child has left behind is removed at the next start.
"""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import structlog

from millstream.runtime.lifecycle import fault_point
from millstream.runtime.settings import Settings
from millstream_projector.opening import FILE
from millstream_projector.store import wal_file
from millstream_schemas.audit import RebuildStatus

log = structlog.get_logger()

COMMAND = ("-P", "-m", "millstream_projector.audit.rebuild")
"""What the interpreter is told to fold; the directory of the new file comes behind it."""
DIRECTORY = "rebuild"
STOP_BOUND_S = 3.0


class Rebuilder:
    """Runs at most one rebuild at a time; ``is_ready`` is set once a new file waits."""

    def __init__(self, settings: Settings, *, node: str, address: str) -> None:
        self.is_ready = asyncio.Event()
        self._settings = settings
        self.address = address
        self._node = node
        self._wanted = asyncio.Event()
        self._state = "idle"
        self._message = ""

    @property
    def _directory(self) -> Path:
        return self._settings.data_dir / DIRECTORY

    def request(self) -> None:
        """Start a rebuild, unless one runs."""
        if self._state not in {"running", "swapping"}:
            self._state, self._message = "running", ""
            self._wanted.set()

    def status(self, checkpoint: int) -> RebuildStatus:
        """Return how far it is; ``checkpoint`` is the live file's."""
        return RebuildStatus.model_validate(
            {
                "node": self._node,
                "address": self.address,
                "state": self._state,
                "message": self._message,
                "as_of": checkpoint,
            }
        )

    async def serve(self, stop: asyncio.Event, ending: asyncio.Event) -> None:
        """Run what is requested; sets ``ending`` and returns on ``stop``, or with a new file."""
        try:
            while await _either(self._wanted, stop):
                self._wanted.clear()
                code = await self._run(stop)
                if code == 0 and not stop.is_set():
                    self._state = "swapping"
                    self.is_ready.set()
                    return
                self._state = "failed"
                self._message = f"the rebuild ended with exit code {code}; see the projector's log"
                log.error("rebuild.failed", code=code)
        finally:
            ending.set()

    async def _run(self, stop: asyncio.Event) -> int:
        log.info("rebuild.started")
        await asyncio.to_thread(self.clear)
        try:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, *COMMAND, str(self._directory)),
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, **_environment(self._settings)},
            )
        except OSError as error:
            log.error("rebuild.not_started", reason=str(error))  # noqa: TRY400
            return 1
        try:
            async with asyncio.TaskGroup() as tasks:
                ended = tasks.create_task(child.wait())
                stopped = tasks.create_task(stop.wait())
                await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
                stopped.cancel()
                if not ended.done():
                    child.terminate()
                    ended.cancel()
        finally:
            await _end(child)
        return child.returncode or 0

    def swap(self) -> None:
        """Put the new file in the old one's place; both must be closed.

        Where that can't be done the old file stands, without what its log held: a projector goes
        on from its earlier checkpoint. After a kill at any point it is one of both, whole.
        """
        old, new = self._settings.data_dir / FILE, self._directory / FILE
        self.is_ready.clear()
        try:
            fault_point(self._settings, "before-swap")
            # A write-ahead log of the old file must not meet the new one. Without it the old file
            # is that of an earlier checkpoint, from which a projector goes on as well.
            wal_file(old).unlink(missing_ok=True)
            fault_point(self._settings, "amid-swap")
            new.replace(old)
            fault_point(self._settings, "after-swap")
        except OSError as error:
            self._state = "failed"
            self._message = f"the new file can't take the old one's place: {error}"
            log.error("rebuild.not_swapped", reason=str(error))  # noqa: TRY400  # expected
        else:
            self._state = "done"
            log.info("rebuild.swapped")
        self.clear()

    def clear(self) -> None:
        """Remove what an earlier rebuild has left."""
        shutil.rmtree(self._directory, ignore_errors=True)


async def _either(wanted: asyncio.Event, stop: asyncio.Event) -> bool:
    """Return once one of both is set: whether it was not ``stop``."""
    async with asyncio.TaskGroup() as tasks:
        waits = {tasks.create_task(wanted.wait()), tasks.create_task(stop.wait())}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
    return not stop.is_set()


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    try:
        async with asyncio.timeout(STOP_BOUND_S):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()


def _environment(settings: Settings) -> dict[str, str]:
    """Return the settings that the child needs, which may have come another way than by these."""
    chosen = {
        "NATS_URL": settings.nats_url,
        "NATS_USER": settings.nats_user,
        "NATS_PASSWORD_FILE": settings.nats_password_file,
        "DATA_DIR": settings.data_dir,
        "NODE": settings.node,
        "LOG_LEVEL": settings.log_level,
        "LOG_FORMAT": settings.log_format,
    }
    return {f"MILLSTREAM_{name}": str(value) for name, value in chosen.items() if value is not None}
