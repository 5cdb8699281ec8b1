"""Server-sent events: a parser after the WHATWG rules, and a reader that reconnects."""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import httpx

from millstream.cli.client import Server
from millstream.client.requests import unreachable

STREAM_PATH = "/v1/stream"
SILENCE_LIMIT_S = 15.0
"""A heartbeat comes after a second; the first message of a server that is starting takes longer."""
AWAY_LIMIT_S = 60.0
RECONNECT_S = 0.5


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: its name (`message` when unnamed), its data, and the last id seen."""

    name: str
    data: str
    last_id: str


class Parser:
    """Turns bytes, cut anywhere, into events; lines end with CR LF, LF or CR."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry_ms: int | None = None
        self._buffer = b""
        self._skip_newline = False
        self._at_start = True
        self._name = ""
        self._data: list[str] = []
        self._id = last_id

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        """Yield the events that `chunk` completes."""
        for line in self._lines(chunk):
            if not line:
                if (event := self._dispatch()) is not None:
                    yield event
            elif not line.startswith(":"):
                name, _, value = line.partition(":")
                self._take(name, value.removeprefix(" "))

    def _lines(self, chunk: bytes) -> Iterator[str]:
        if self._skip_newline and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._skip_newline = False
        # A CR at the very end may be half of a CR LF: the line ends, a following LF is skipped.
        self._skip_newline = self._skip_newline or chunk.endswith(b"\r")
        self._buffer += chunk
        *lines, self._buffer = (
            self._buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        )
        for raw in lines:
            line = raw.decode("utf-8", "replace")
            yield line.removeprefix("\ufeff") if self._at_start else line
            self._at_start = False

    def _take(self, name: str, value: str) -> None:
        match name:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry_ms = int(value)
            case _:
                return

    def _dispatch(self) -> ServerEvent | None:
        self.last_id = self._id
        name, data = self._name or "message", self._data
        self._name, self._data = "", []
        return ServerEvent(name, "\n".join(data), self.last_id) if data else None


def follow(server: Server) -> Generator[ServerEvent]:
    """Yield the server's events for ever, resuming after the last id when a connection ends.

    Raises:
        ApiError: the server refused.
        UnreachableError: it was not there at first, or stayed away for `AWAY_LIMIT_S`.
    """
    last_id = ""
    while True:
        parser = Parser(last_id)
        try:
            for chunk in server.stream(STREAM_PATH, last_id=last_id, silence_s=SILENCE_LIMIT_S):
                yield from parser.feed(chunk)
        except httpx.TransportError as error:
            heard_at = server.answered_at
            if heard_at is None or time.monotonic() - heard_at > AWAY_LIMIT_S:
                raise unreachable(server.url, error) from error
        last_id = parser.last_id
        time.sleep((parser.retry_ms or RECONNECT_S * 1000) / 1000)
