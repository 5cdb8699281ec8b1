"""One kept-alive HTTP/1.1 connection: one streamed exchange after the other.

The answer is parsed in C (httptools) and handed on in the transport's own callbacks, so a piece
that arrives wakes no task.
"""

import asyncio
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, cast

import httptools

from millstream_generator.completion import CallFailedError, Link
from millstream_generator.patience import look_again_at

OK = 200
FINISH_S = 1.0
"""How long an answer may take to end after all that was wanted of it has come."""
HEAD_BYTES_MOST = 65_536
PIECE_BYTES_MOST = 65_536
"""So much of what is unpacked is handed on at once."""
_PACKED = frozenset({"gzip", "x-gzip", "deflate"})
_PACKED_BITS = 47
"""Lets zlib find out which of both it is."""


class Receiver(Protocol):
    """Takes one answer as it arrives; both methods may raise CallFailedError to end it."""

    is_done: bool
    """Whether all that is wanted has come, though the answer may go on."""

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Take status and headers (lower-case names)."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""


class Bounds(NamedTuple):
    """How long an exchange may take.

    Till ``deadline`` on the loop's clock, ``timeout_s`` after its start; and ``stall_s`` without a
    byte once it is answered.
    """

    deadline: float
    timeout_s: float
    stall_s: float


class Connection(asyncio.Protocol):
    """A connection; its owner is told when it is made, free for another exchange, and gone.

    httptools calls the methods named ``on_``.
    """

    def __init__(
        self,
        *,
        made: Callable[["Connection"], None],
        rest: Callable[["Connection"], None],
        gone: Callable[["Connection"], None],
    ) -> None:
        self._made = made
        self._rest = rest
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[None] | None = None
        self._receiver: Receiver | None = None
        self._bounds = Bounds(0.0, 0.0, 0.0)
        self._watch: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._heard_at: float | None = None
        self._has_ended = False
        self._may_stay = False
        self._unpack: zlib._Decompress | None = None
        self._is_readable = True

    async def exchange(self, request: bytes, receiver: Receiver, bounds: Bounds) -> None:
        """Send ``request``; return once ``receiver`` has the whole answer, or is done with it.

        Cut off at once when it fails or is cancelled: the server then works no further.

        Raises:
            CallFailedError: no whole answer, in its category.
        """
        self._answer = self._loop.create_future()
        self._receiver, self._bounds = receiver, bounds
        self._heard_at, self._has_ended = None, False
        self._headers, self._head_bytes = {}, 0
        self._watch = self._look_at(bounds.deadline)
        if self._transport is None or self._transport.is_closing():
            message = "the connection was closed before the request could be sent"
            self._settle(CallFailedError("server", message, link="lost", is_unpaid=True))
        else:
            self._transport.write(request)
        is_whole = False
        try:
            await self._answer
            is_whole = True
        finally:
            self._answer = self._receiver = None
            self._watch.cancel()
            if not is_whole:
                self.abort()
            elif self._has_ended:
                self._end()
            else:
                self._watch = self._loop.call_later(FINISH_S, self.abort)

    @property
    def is_usable(self) -> bool:
        """Whether an exchange may start; the other side may have closed the connection."""
        return self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; asyncio calls this."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._made(self)

    def data_received(self, data: bytes) -> None:
        """Parse what came; asyncio calls this."""
        if self._heard_at is not None:
            self._heard_at = self._loop.time()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"the endpoint does not speak HTTP/1.1: {error}")
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Settle what is under way; asyncio calls this."""
        if self._watch is not None:
            self._watch.cancel()
        lasts_till_closed = "content-length" not in self._headers and (
            "chunked" not in self._headers.get("transfer-encoding", "")
        )
        if exc is None and self._heard_at is not None and lasts_till_closed:
            self._settle(None)
        else:
            reason = f": {exc}" if exc else ""
            self._fail(f"the connection broke before the answer was whole{reason}", link="lost")
        self._gone(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header, or a trailer."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES_MOST:
            self._fail(f"the answer's headers exceed {HEAD_BYTES_MOST} bytes")
        else:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Hand status and headers on."""
        status = self._parser.get_status_code()
        if status < 200:
            self._headers = {}
            return
        self._heard_at = self._loop.time()
        if self._watch is not None and self._is_open:
            self._watch.cancel()
            self._look()
        # None was asked for; a proxy may pack what it says of its own all the same.
        encoding = self._headers.get("content-encoding", "identity").lower()
        self._unpack = zlib.decompressobj(_PACKED_BITS) if encoding in _PACKED else None
        self._is_readable = encoding in _PACKED or encoding == "identity"
        if status == OK and not self._is_readable:
            self._fail(f"the answer is encoded as {encoding!r}, which was not asked for")
        elif self._receiver is not None:
            self._hand_on(lambda receiver: receiver.begin(status, self._headers))

    def on_body(self, data: bytes) -> None:
        """Hand a piece of the body on."""
        if self._unpack is not None:
            self._feed_unpacked(self._unpack, data)
        elif self._is_readable:
            self._hand_on(lambda receiver: receiver.feed(data))

    def _feed_unpacked(self, unpack: "zlib._Decompress", data: bytes) -> None:
        try:
            while data and self._is_open:
                piece = unpack.decompress(data, PIECE_BYTES_MOST)
                data = unpack.unconsumed_tail
                self._hand_on(lambda receiver, piece=piece: receiver.feed(piece))  # type: ignore[misc]
        except zlib.error as error:
            self._fail(f"the answer can't be unpacked: {error}")

    def on_message_complete(self) -> None:
        """Settle the exchange; an interim answer (1xx) is none."""
        if self._parser.get_status_code() < 200:
            return
        if (
            self._unpack is not None
            and not self._unpack.eof
            and self._parser.get_status_code() == OK
        ):
            self._fail("the answer can't be unpacked: it ends in the middle")
        self._has_ended = True
        self._may_stay = self._parser.should_keep_alive()  # later the parser has forgotten it
        if self._answer is None:
            self._end()
        self._settle(None)

    @property
    def _is_open(self) -> bool:
        return self._answer is not None and not self._answer.done()

    def _hand_on(self, give: Callable[[Receiver], None]) -> None:
        # Nothing may be raised here: the parser could not go on after it.
        if self._receiver is None or not self._is_open:
            return
        try:
            give(self._receiver)
        except CallFailedError as error:
            self._settle(error)
        else:
            if self._receiver.is_done:
                self._settle(None)

    def _end(self) -> None:
        """Go on to the next exchange, if the server lets this connection live."""
        if self._watch is not None:
            self._watch.cancel()
        if self._may_stay:
            self._rest(self)
        else:
            self.abort()

    def _settle(self, error: CallFailedError | None) -> None:
        if self._answer is not None and not self._answer.done():
            if error is None:
                self._answer.set_result(None)
            else:
                self._answer.set_exception(error)

    def _fail(self, message: str, link: Link | None = None) -> None:
        self._settle(CallFailedError("server", message, link=link))

    def _look_at(self, when: float) -> asyncio.TimerHandle:
        self._due = when
        return self._loop.call_at(when, self._look)

    def _look(self) -> None:
        """Fail the exchange if a bound has passed, else look again when one may have.

        One timer per exchange: a piece that arrives only notes the time.
        """
        bounds, now = self._bounds, self._loop.time()
        next_look = bounds.deadline
        if self._heard_at is not None:
            next_look = min(next_look, self._heard_at + bounds.stall_s)
        if now < next_look:
            self._watch = self._look_at(next_look)
        elif (again := look_again_at(self._due, now)) is not None:
            self._watch = self._look_at(again)
        elif now >= bounds.deadline:
            message = f"no whole answer within {bounds.timeout_s:g} s"
            self._settle(CallFailedError("timeout", message))
        else:
            message = f"the answer stalled: no token for {bounds.stall_s:g} s"
            self._settle(CallFailedError("timeout", message, status_code=OK))
