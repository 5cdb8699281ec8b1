"""A model's server that costs little itself: the answers of `simulated/fast` over bare HTTP/1.1.

On two processors a server that took as much of them as the generator would hide its speed. The
answers, their four streamed chunks and their 50 ms are the simulated model's own; only what stands
around them (routes, counters, failures, other profiles) is left out.
"""

import argparse
import asyncio
from pathlib import Path
from typing import cast

import httptools
import uvloop

from millstream.openai_wire import SSE_CONTENT_TYPE, StreamEncoder, split_text
from millstream_generator.readiness import write_ready_file
from millstream_generator.simulated.chat import ChatRequest, RequestReader, answer
from millstream_generator.simulated.profiles import FIRST_TOKEN_SHARE

HEAD = (
    f"HTTP/1.1 200 OK\r\nContent-Type: {SSE_CONTENT_TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n"
).encode()
END = b"0\r\n\r\n"


class ModelProtocol(asyncio.Protocol):
    """One kept-alive connection; httptools calls the methods named ``on_``."""

    def __init__(self, reader: RequestReader) -> None:
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._body: list[bytes] = []
        self._timers: list[asyncio.TimerHandle] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; asyncio calls this."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came; asyncio calls this."""
        self._parser.feed_data(data)

    def connection_lost(self, _: Exception | None) -> None:
        """Send nothing more: whoever asked has gone; asyncio calls this."""
        for timer in self._timers:
            timer.cancel()

    def on_body(self, data: bytes) -> None:
        """Take a piece of the request."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """Answer: the first chunk after its share of the latency, then evenly."""
        body, self._body = b"".join(self._body), []
        chat = self._reader.read(body)
        chunks = _chunks(chat)
        first_s = chat.profile.latency_s * FIRST_TOKEN_SHARE
        gap_s = (chat.profile.latency_s - first_s) / max(1, len(chunks) - 1)
        now = self._loop.time()
        self._timers = [
            self._loop.call_at(now + first_s + number * gap_s, self._send, chunk)
            for number, chunk in enumerate(chunks)
        ]

    def _send(self, chunk: bytes) -> None:
        if self._transport is not None:
            self._transport.write(chunk)


def _chunks(chat: ChatRequest) -> list[bytes]:
    """Return the pieces of a whole HTTP answer, head and end included."""
    reply = answer(chat)
    encoder = StreamEncoder(f"chatcmpl-{chat.fingerprint.hex()}", chat.model)
    pieces = split_text(reply.text, chat.profile.chunks)
    events = [encoder.content(piece, first=not index) for index, piece in enumerate(pieces)]
    events[-1] += encoder.end(reply.finish_reason, reply.usage if chat.include_usage else None)
    framed = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    framed[0] = HEAD + framed[0]
    framed[-1] += END
    return framed


async def serve(ready_file: Path) -> None:
    """Serve on a free port of this machine until the process ends; its URL goes into a file."""
    reader = RequestReader()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ModelProtocol(reader), "127.0.0.1", 0, backlog=1024)
    host, port = server.sockets[0].getsockname()
    write_ready_file(ready_file, f"http://{host}:{port}")
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ready-file", type=Path, required=True)
    uvloop.run(serve(parser.parse_args().ready_file))
