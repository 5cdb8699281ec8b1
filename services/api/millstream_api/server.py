"""uvicorn as we need it: small socket buffers, our own signals, and streams that end cleanly."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from millstream.errors import SettingsError
from millstream_api.relay.client import Client
from millstream_api.relay.endpoint import PIPE
from millstream_api.relay.hub import Hub

SEND_BUFFER_BYTES = 65_536
UNSENT_BYTES_MAX = 4_096
DRAIN_WINDOW_S = 2.0
DRAIN_S_PER_STREAM = 0.002
GRACE_S = 1
KEEP_ALIVE_S = 30
BACKLOG = 4096
HEAD_BYTES_MAX = 131_072
HEAD_REFUSED = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n"
    b"content-length: 0\r\n\r\n"
)


class StreamProtocol(HttpToolsProtocol):
    """HTTP/1.1 with small buffers: what waits in a buffer can't be replaced by a later state.

    With the defaults a slow client lags by megabytes of old frames; with these by two seconds.
    It is a stream's `Pipe` too: after the head the frames go straight to the transport.
    """

    paused_since: float | None = None
    _is_head = True
    _head_bytes = 0
    _follower: Client | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Shrink the buffers of a new connection."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                option = socket.TCP_NOTSENT_LOWAT
                connection.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        """Drop a connection whose request never gets to the end of its headers."""
        super().data_received(data)
        if self._is_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.transport.write(HEAD_REFUSED)
                self.transport.close()

    def on_headers_complete(self) -> None:
        """Note that what comes now is bounded elsewhere."""
        self._is_head = False
        super().on_headers_complete()

    def on_message_begin(self) -> None:
        """Give the application the connection itself."""
        self._is_head, self._head_bytes = True, 0
        super().on_message_begin()
        scope = cast("dict[str, Any]", self.scope)  # the type knows the standard extensions only
        scope["extensions"] = {PIPE: self}

    @property
    def is_unsaid(self) -> bool:
        """Whether the body of a request has begun and not ended."""
        return self.cycle is not None and self.cycle.more_body and not self.cycle.response_complete

    def pause_writing(self) -> None:
        """Note since when the peer takes nothing."""
        self.paused_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Let the stream send what came up meanwhile."""
        self.paused_since = None
        super().resume_writing()
        if self._follower is not None:
            self._follower.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the stream that its peer is gone."""
        super().connection_lost(exc)
        if self._follower is not None:
            self._follower.leave()

    def follow(self, client: Client | None) -> None:
        """See `Pipe`."""
        self._follower = client
        if client is not None and self.transport.is_closing():
            client.leave()

    def write(self, body: bytes) -> None:
        """Write a chunk of the answer's body, as uvicorn would after its checks."""
        if not self.transport.is_closing():
            self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))

    def abort(self) -> None:
        """See `Pipe`."""
        self.transport.abort()


class Server(uvicorn.Server):
    """Ends its streams itself: uvicorn would wait for them for ever, or cut each with an error."""

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self._hub = hub

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the service that runs this server."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connection, end the streams over a window, then the rest."""
        for server in self.servers:
            server.close()
        streams = len(self._hub.clients)
        await self._hub.drain(min(DRAIN_WINDOW_S, streams * DRAIN_S_PER_STREAM))
        # Before uvicorn's own bound, at which it would cancel each with a traceback.
        asyncio.get_running_loop().call_later(GRACE_S / 2, self._cut_unsaid)
        await super().shutdown(sockets)

    def _cut_unsaid(self) -> None:
        """Drop the connections whose request is still not here as a whole."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, StreamProtocol) and connection.is_unsaid:
                connection.abort()


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; who connects now is served once `serve` runs.

    Raises:
        SettingsError: the address can't be bound; names it and what to do.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise SettingsError(
            f"MILLSTREAM_HOST={host} is no address of this machine ({error.strerror}); "
            "use 127.0.0.1"
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)  # Bound alone, another process could still take the port.
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(
                f"port {port} of {host} is in use; stop the program that holds it, or choose "
                "another one with --port or MILLSTREAM_PORT"
            ) from error
        raise SettingsError(
            f"{host}:{port} can't be bound ({error.strerror}); choose another MILLSTREAM_HOST or "
            "MILLSTREAM_PORT"
        ) from error
    return listener


async def serve(
    app: Any,
    hub: Hub,
    listener: socket.socket,
    stop: asyncio.Event,
    *,
    tls: tuple[Path, Path] | None = None,
    proxies: Sequence[str] = (),
) -> None:
    """Serve ``app`` on ``listener`` until ``stop``, then end every stream and connection.

    ``tls``: certificate chain and key. ``proxies``: who may say whom a request comes from.
    """
    config = uvicorn.Config(
        app,
        http=StreamProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        ssl_certfile=tls[0] if tls else None,
        ssl_keyfile=tls[1] if tls else None,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = Server(config, hub)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(sockets=[listener]))
        await stop.wait()
        server.should_exit = True
