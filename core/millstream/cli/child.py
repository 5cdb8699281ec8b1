"""One child process of `up`: started in the guard's group, brought back when it dies."""

import asyncio
import codecs
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from millstream.cli.guard import Guard
from millstream.errors import ServerError

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 2.0
STEADY_AFTER_S = 10.0
POLL_S = 0.05
GIVE_UP_AT = 5
"""A child that was never ready is given up at this many points: an exit by itself counts 2 (it
will hardly change its mind), a kill counts 1."""
LINE_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run, and how to see that it is ready.

    ``probe`` is asked every 50 ms after each start until it says True; it must answer in a
    bounded time. ``ready_limit_s`` bounds the first start; ``stop_bound_s`` the time between
    SIGTERM and SIGKILL.
    """

    name: str
    command: Sequence[str]
    probe: Callable[[], Awaitable[bool]]
    environment: Mapping[str, str] = field(default_factory=dict)
    url: str | None = None
    ready_limit_s: float = 100.0
    stop_bound_s: float = 2.0


class Child:
    """Runs a `ChildSpec` until told to stop.

    ``said`` gets one line about each death; ``changed`` is called when the process id changes;
    ``last_lines`` holds the end of its output.
    """

    def __init__(
        self,
        spec: ChildSpec,
        guard: Guard,
        *,
        said: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self.spec = spec
        self.pid: int | None = None
        self.restarts = 0
        self._guard = guard
        self._said = said
        self._changed = changed
        self._ready = asyncio.Event()
        self._failure = ""
        self._settled = asyncio.Event()
        self._stopping = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self.last_lines: deque[str] = deque(maxlen=3)

    async def supervise(self) -> None:
        """Keep the child running until `stop`; returns once it has ended.

        Returns too when it keeps ending before it was ever ready: `wait_ready` then raises.

        Raises:
            ServerError: its program can't be run at all.
        """
        pause_s = BACKOFF_FIRST_S
        failed_starts = 0
        clock = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            started = clock()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            if not self._ready.is_set():
                failed_starts += 2 if code > 0 else 1
                if failed_starts >= GIVE_UP_AT:
                    self._failure = f"{self.spec.name} {_ended(code)}"
                    self._settled.set()
                    return
            if clock() - started >= STEADY_AFTER_S:
                pause_s = BACKOFF_FIRST_S
            self._said(f"{self.spec.name} {_ended(code)}; starting it again in {pause_s:g} s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            pause_s = min(pause_s * 2, BACKOFF_MAX_S)
            self.restarts += 1

    async def wait_ready(self) -> None:
        """Return once the probe has said yes for the first time.

        Raises:
            ServerError: it kept ending, or that took longer than the spec allows.
        """
        try:
            async with asyncio.timeout(self.spec.ready_limit_s):
                await self._settled.wait()
        except TimeoutError as error:
            raise ServerError(
                f"{self.spec.name} was not ready within {self.spec.ready_limit_s:g} s"
                f"{self._last_words()}"
            ) from error
        if self._failure:
            raise ServerError(f"{self._failure} before it was ready{self._last_words()}")

    async def stop(self, *, bound_s: float | None = None) -> None:
        """End the child: SIGTERM, and SIGKILL after the bound; harmless when repeated."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(bound_s or self.spec.stop_bound_s):
                await process.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await process.wait()

    def kill(self) -> None:
        """End the child at once, and for good."""
        self._stopping.set()
        self._signal(signal.SIGKILL)

    async def reap(self) -> None:
        """Return once the child that was killed has ended, so that no zombie is left."""
        if self._process is not None:
            await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _run_once(self) -> int:
        read_end, write_end = os.pipe()
        try:
            # The output pipe is ours, not asyncio's, whose wait() may also wait for the pipe's
            # end: a grandchild that outlives the child would hide the death.
            process = await asyncio.create_subprocess_exec(
                *self.spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                env={**os.environ, **self.spec.environment},
                process_group=self._guard.group(),
            )
        except OSError as error:
            os.close(read_end)
            raise ServerError(f"{self.spec.name} can't be started: {error}") from error
        finally:
            os.close(write_end)
        self._process, self.pid = process, process.pid
        self._changed()
        output = _Output(self.spec.name, read_end, self.last_lines)
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            probe = tasks.create_task(self._probe(), name=f"probe-{self.spec.name}")
            if self._stopping.is_set():  # stop() came while the process was being made
                self._signal(signal.SIGTERM)
                loop.call_later(self.spec.stop_bound_s, self._signal, signal.SIGKILL)
            code = await process.wait()
            probe.cancel()
        output.close()
        self.pid = None
        return code

    async def _probe(self) -> None:
        while not await self.spec.probe():  # noqa: ASYNC110  # another process has no Event
            await asyncio.sleep(POLL_S)
        self._ready.set()
        self._settled.set()

    def _last_words(self) -> str:
        return f": {self.last_lines[-1]}" if self.last_lines else ""


class _Output:
    """Copies a child's output to stderr, line by line, each with the child's name."""

    def __init__(self, name: str, handle: int, last_lines: deque[str]) -> None:
        self._name = name
        self._handle = handle
        self._last_lines = last_lines
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        os.set_blocking(handle, False)
        asyncio.get_running_loop().add_reader(handle, self._copy)

    def close(self) -> None:
        """Copy what is left and close."""
        while self._handle >= 0 and self._copy():
            continue
        self._end()

    def _copy(self) -> bool:
        try:
            chunk = os.read(self._handle, LINE_LIMIT)
        except BlockingIOError:
            return False
        if not chunk:
            self._end()
            return False
        *lines, rest = (self._rest + self._decoder.decode(chunk)).split("\n")
        if len(rest) > LINE_LIMIT:
            lines, rest = [*lines, rest], ""
        self._rest = rest
        for line in lines:
            if line.strip():
                self._last_lines.append(line.strip())
                write_line(f"{self._name:<12} | {line}")
        return True

    def _end(self) -> None:
        if self._handle >= 0:
            asyncio.get_running_loop().remove_reader(self._handle)
            os.close(self._handle)
            self._handle = -1


def write_line(line: str) -> None:
    """Write a line to stderr; a closed terminal must not end the supervision."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def _ended(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
        return f"was ended by signal {-code}"
    return f"ended with exit code {code}"
