"""One `up` per data directory: a kernel lock that ends with its process, however that dies."""

import fcntl
import os
from pathlib import Path

from millstream.errors import UsageError

LOCK_FILE = "up.lock"


class DirectoryLock:
    """The exclusive right to run on ``directory``; hold it for the life of the process."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / LOCK_FILE
        self._handle = -1

    def acquire(self) -> None:
        """Take the lock and write this process's id into its file.

        Raises:
            UsageError: another process holds it, or the directory can't be written.
        """
        directory = self.path.parent
        try:
            directory.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UsageError(
                f"--data {directory} can't be written ({error.strerror}); name another directory",
                field="data",
                value=str(directory),
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = self.path.read_text(encoding="ascii", errors="replace").strip() or "unknown"
            os.close(handle)
            raise UsageError(
                f"the data directory {directory} is in use by another `millstream up` "
                f"(process {holder}); stop that one or name another directory with --data",
                field="data",
                value=str(directory),
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        self._handle = handle

    def release(self) -> None:
        """Give the lock back; harmless when not held."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
