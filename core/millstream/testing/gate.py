"""A proxy before the API that can be shut: for all, or for live streams alone."""

import re
import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, Self

CHUNK = 65_536
STREAM = b"GET /v1/stream"
HEAD = re.compile(rb"([A-Z]+ /\S*) HTTP/1\.1\r\n")
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
Passing = Literal["all", "no streams", "errors", "nothing", "silence"]


class Gate:
    """Passes bytes both ways between clients and the server on ``port``; a context manager.

    ``let`` says what passes from now on; what is open and may not pass any more is cut. With
    ``errors`` each request is answered 502, as by a proxy before a dead server. With ``silence``
    all stays open but nothing gets through, nor ever will on what is open then, as when a network
    falls dead and forgets its connections. ``asked`` has the method and path of each request, also
    of those that a browser's workers made.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._passing: Passing = "all"
        self.asked: list[str] = []
        self._lock = threading.Lock()
        self._open: dict[socket.socket, bool] = {}
        self._deaf: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", 0), _handler(self._serve))

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        """Begin to pass."""
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Cut everything."""
        self._server.shutdown()
        self._server.server_close()
        self.let("nothing")

    def let(self, passing: Passing) -> None:
        """Let so much pass from now on."""
        with self._lock:
            self._passing = passing
            if passing == "silence":
                self._deaf.update(self._open)
                return
            for client, is_stream in list(self._open.items()):
                if not self._passes(is_stream=is_stream):
                    _cut(client)

    def _passes(self, *, is_stream: bool) -> bool:
        return self._passing == "all" or (self._passing == "no streams" and not is_stream)

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), socket.create_connection(self._target) as server:
            with self._lock:
                self._open[client] = False
                if self._passing == "silence":
                    self._deaf.add(client)
            back = threading.Thread(target=self._answer, args=(server, client), daemon=True)
            back.start()
            while data := client.recv(CHUNK):
                if client in self._deaf:
                    continue
                with self._lock:
                    # A browser sends each request's head as one piece.
                    if head := HEAD.match(data):
                        self.asked.append(head[1].decode())
                    is_stream = self._open[client] = data.startswith(STREAM)
                    passes = self._passes(is_stream=is_stream)
                    refuses = self._passing == "errors"
                if refuses:
                    client.sendall(BAD_GATEWAY)
                if not passes:
                    break
                server.sendall(data)
            _cut(client)
            _cut(server)
            back.join()
        with self._lock:
            self._open.pop(client, None)
            self._deaf.discard(client)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(CHUNK):
                if client not in self._deaf:
                    client.sendall(data)
        _cut(client)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64


def _handler(serve: Callable[[socket.socket], None]) -> type[socketserver.BaseRequestHandler]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            serve(self.request)

    return Handler


def _cut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
