"""The guard: a tiny shell that kills all children when `up` itself is killed.

`kill -9` leaves a process no time to stop its children, and the usual remedies are Linux-only or
need help from the child. So a shell of about 1 MB leads a process group that every child joins
before it runs its program, and reads from a pipe that only `up` holds open. The kernel closes
the pipe when `up` dies, however it dies; the shell then kills the whole group, itself included,
frozen processes too. A child that is just being started can't slip through: joining a group
that has gone fails, and the program never runs. The group stays apart from the terminal's, so
Ctrl-C reaches `up` alone, which stops its children in order.
"""

import contextlib
import os
import signal
import subprocess

from millstream.errors import ServerError

_SCRIPT = "trap '' HUP INT QUIT TERM; read -r _; kill -KILL 0"


class Guard:
    """Owns the process group of the children; `start` it first and `release` it last."""

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe()
        self._shell: subprocess.Popen[bytes] | None = None
        self._group: int | None = None

    @property
    def pid(self) -> int | None:
        """The shell's process id."""
        return self._shell.pid if self._shell else None

    def group(self) -> int:
        """Return the id of the group that a new child must join.

        A shell that somebody killed is replaced: by one in the same group as long as a member of
        the group lives, else by one in a new group.

        Raises:
            ServerError: the shell can't be started.
        """
        if self._shell is not None and self._shell.poll() is None:
            return self._group or self._shell.pid
        if self._group is not None:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                self._shell = self._spawn(self._group)
                return self._group
        try:
            self._shell = self._spawn(0)
        except (OSError, subprocess.SubprocessError) as error:
            raise ServerError(f"the guard process (/bin/sh) can't be started: {error}") from error
        self._group = self._shell.pid
        return self._group

    def release(self) -> None:
        """Kill whatever is left in the group, and the shell; harmless when repeated."""
        if self._group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, signal.SIGKILL)
        if self._shell is not None:
            self._shell.wait()
        self._group = None

    def _spawn(self, group: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT],
            stdin=self._read_end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=group,
            cwd="/",
        )
