"""One service as a process of its own, for tests that need just some of them."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import httpx

from millstream.errors import ServerError
from millstream.eventlog.server import free_port
from millstream.testing.stack import wait_until
from millstream.testing.waiting import BOUND_S

STOP_LIMIT_S = 60.0


class ServiceProcess:
    """Runs ``python -m <module>``; the end of its context stops it in order.

    Its environment holds no setting of Millstream but ``settings`` (names without the prefix).
    """

    def __init__(self, module: str, log_file: Path, **settings: str) -> None:
        self.module = module
        self.log_file = log_file
        self._settings = {f"MILLSTREAM_{name.upper()}": value for name, value in settings.items()}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        self.launch()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def pid(self) -> int:
        """The id of the process.

        Raises:
            ServerError: it was not started.
        """
        if self._process is None:
            raise ServerError(f"{self.module} was not started")
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, None while it runs."""
        return None if self._process is None else self._process.poll()

    def launch(self) -> None:
        """Start the process; does not wait for anything."""
        clean = {name: value for name, value in os.environ.items() if "MILLSTREAM_" not in name}
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", self.module],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**clean, "MILLSTREAM_LOG_FORMAT": "text", **self._settings},
            )

    def wait(self, limit_s: float = STOP_LIMIT_S) -> int:
        """Return the exit code once it has ended by itself."""
        if self._process is None:
            raise ServerError(f"{self.module} was not started")
        return self._process.wait(limit_s)

    def kill(self) -> None:
        """Kill it as ``kill -9`` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> None:
        """Ask it to end and return once it has."""
        os.kill(self.pid, signal.SIGTERM)
        self.wait()

    def stop(self) -> None:
        """End it; killed when it does not end in time."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def log(self) -> str:
        """Return everything that it wrote to stdout and stderr."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")


class ApiProcess(ServiceProcess):
    """The API on a free port, with the models ``simulated/*`` named (nobody serves them)."""

    def __init__(self, log_file: Path, nats_url: str, **settings: str) -> None:
        self.port = int(settings.pop("port", free_port()))
        simulated = settings.pop("simulated_url", "http://127.0.0.1:9")
        super().__init__(
            "millstream_api",
            log_file,
            nats_url=nats_url,
            port=str(self.port),
            simulated_url=simulated,
            data_dir=str(log_file.parent),
            **settings,
        )

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    def launch(self) -> None:
        """Start it and return once it is ready.

        Raises:
            ServerError: it ended, or was not ready in time; the message quotes its log.
        """
        super().launch()
        try:
            # One client for all tries: each reads the certificates, for a fifth of a second.
            with httpx.Client(timeout=2) as client:
                wait_until(lambda: self._is_ready(client), BOUND_S, "a ready API")
        except (TimeoutError, ServerError) as error:
            self.kill()
            raise ServerError(f"{error}; its log ends with:\n{self.log()[-4000:]}") from error

    def _is_ready(self, client: httpx.Client) -> bool:
        if self.exit_code is not None:
            raise ServerError(f"the API ended with code {self.exit_code}")
        try:
            return client.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False
