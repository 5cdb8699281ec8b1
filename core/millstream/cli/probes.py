"""Cheap questions to a child: is it ready? Each answers within a second and never raises."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from millstream.errors import UsageError
from millstream.runtime.clock import boot_seconds

Probe = Callable[[], Awaitable[bool]]

PROBE_LIMIT_S = 1.0
NODES_AGE_S = 0.1


@dataclass(frozen=True, slots=True)
class Api:
    """Where the API listens; plain sockets, since an HTTP client would cost `up` 20 MB."""

    host: str
    port: int
    token_file: Path | None = None
    is_tls: bool = False

    async def get(self, path: str) -> bytes | None:
        """Return the body of a 200 answer, or None."""
        head = [f"GET {path} HTTP/1.0", f"Host: {self.host}:{self.port}", "Accept: */*"]
        with contextlib.suppress(OSError, TimeoutError, UnicodeError):
            if self.token_file is not None:
                token = self.token_file.read_text(encoding="utf-8").strip()
                head.append(f"Authorization: Bearer {token}")
            async with asyncio.timeout(PROBE_LIMIT_S):
                reader, writer = await asyncio.open_connection(
                    self.host, self.port, ssl=_own_child() if self.is_tls else None
                )
                try:
                    writer.write("\r\n".join([*head, "", ""]).encode("ascii"))
                    await writer.drain()
                    answer = await reader.read()
                finally:
                    writer.close()
            status, _, rest = answer.partition(b"\r\n")
            if status.split(b" ", 2)[1:2] == [b"200"]:
                return rest.partition(b"\r\n\r\n")[2]
        return None

    async def is_ready(self) -> bool:
        """Tell whether the API has read the log and serves."""
        return await self.get("/readyz") is not None


def _own_child() -> ssl.SSLContext:
    """Return a context that takes any certificate: its name is not this machine's loopback.

    `up` has started whoever listens there, on a port that was free before.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class LiveNodes:
    """Which processes have told the log that they work, as the API lists them."""

    def __init__(self, api: Api, since: datetime) -> None:
        self._api = api
        self._since = since  # signs of life of an earlier run age out only slowly
        self._names: frozenset[str] = frozenset()
        self._asked_at = -NODES_AGE_S

    def has(self, node: str) -> Probe:
        """Return a probe that says whether ``node`` lives."""

        async def probe() -> bool:
            now = boot_seconds()
            if now - self._asked_at >= NODES_AGE_S:
                self._asked_at = now
                self._names = self._read(await self._api.get("/v1/nodes"))
            return node in self._names

        return probe

    def _read(self, body: bytes | None) -> frozenset[str]:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return frozenset(
                beat["node"]
                for beat in json.loads(body or b"{}")["nodes"]
                if datetime.fromisoformat(beat["started_at"]) >= self._since
            )
        return frozenset()


def written(path: Path) -> Probe:
    """Return a probe that says whether a process has written its ready file."""

    async def probe() -> bool:
        with contextlib.suppress(OSError, ValueError):
            return "url" in json.loads(path.read_text(encoding="utf-8"))  # noqa: ASYNC240  # 60 bytes
        return False

    return probe


def check_port(host: str, port: int) -> None:
    """Make sure that ``host:port`` can be bound.

    Raises:
        UsageError: it is taken, or the host is none of this machine's addresses.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            trial.listen(1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"port {port} on {host} can't be used ({reason.lower()}); "
            "free it or choose another, e.g. --port 5002",
            field="port",
            value=port,
        ) from error
