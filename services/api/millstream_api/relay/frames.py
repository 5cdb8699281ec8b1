"""What goes over the wire: the two flavours of SSE frames, encoded once per version."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol

import orjson

from millstream.runtime.clock import utc_now
from millstream_api.relay.positions import format_position
from millstream_api.relay.versions import Version
from millstream_api.seed import seed_state
from millstream_schemas.deltas import CHANGING


class Flavour(Protocol):
    """How one kind of stream words its messages.

    ``beats`` is for how many looks, two a second, a client that is sent nothing waits for a
    heartbeat.
    """

    name: str
    beats: int

    def update(self, version: Version, after: int = 0, /) -> bytes:
        """Return the frame that tells a batch's present state to who has seen ``after``."""

    def together(self, frames: Sequence[bytes], sequence: int, /) -> bytes:
        """Return the updates that bring a client to ``sequence``."""

    def snapshot(self, versions: Iterable[Version], sequence: int) -> bytes:
        """Return the frame that tells every live batch as of ``sequence``."""

    def heartbeat(self, cursor: int, *, log_away: bool) -> bytes:
        """Return what a client at ``cursor`` gets when nothing happens."""

    def limited(self, batches: bytes, cursor: int) -> bytes:
        """Return the frame that tells which limits let which batches (members of JSON) wait."""

    def busy(self) -> bytes:
        """Return what a client gets for whom there is no room."""


def retry_line(milliseconds: int) -> bytes:
    """Return the block that tells a client how long to wait before it connects again."""
    return f"retry: {milliseconds}\n\n".encode()


class SeedFrames:
    """Unnamed messages: `all_batches` and `batch_update` with the whole state."""

    name = "seed"
    beats = 60

    def __init__(self, epoch: str, _clock: Callable[[], datetime] = utc_now) -> None:
        self._epoch = epoch

    def update(self, version: Version, _after: int = 0, /) -> bytes:
        """Return a `batch_update` message; it is whole, whatever was seen before."""
        frame = version.frames.get(self.name)
        if frame is None:
            state = seed_state(version.view)
            body = {"type": "batch_update", "batch_id": version.state.batch_id, "batch": state}
            frame = self._frame(orjson.dumps(body), version.sequence)
            version.frames[self.name] = frame
        return frame

    def together(self, frames: Sequence[bytes], _sequence: int, /) -> bytes:
        """Return the updates one after the other; each has its id."""
        return b"".join(frames)

    def snapshot(self, versions: Iterable[Version], sequence: int) -> bytes:
        """Return the `all_batches` message."""
        states = {version.state.batch_id: seed_state(version.view) for version in versions}
        return self._frame(orjson.dumps({"type": "all_batches", "batches": states}), sequence)

    def heartbeat(self, cursor: int, *, log_away: bool) -> bytes:  # noqa: ARG002  # a comment
        """Return a comment."""
        return b": heartbeat\n\n"

    def limited(self, batches: bytes, cursor: int) -> bytes:  # noqa: ARG002  # not told here
        """Return nothing: the older contract knows no such thing."""
        return b""

    def busy(self) -> bytes:
        """Return a comment that says so."""
        return b": busy, too many streams; connect again later\n\n"

    def _frame(self, body: bytes, sequence: int) -> bytes:
        return b"id: %b\ndata: %b\n\n" % (format_position(sequence, self._epoch).encode(), body)


class NamedFrames:
    """Named events of /v1/stream with whole `BatchView`s and the server's time."""

    name = "named"
    beats = 2

    def __init__(self, epoch: str, clock: Callable[[], datetime] = utc_now) -> None:
        """Name places in the stream of ``epoch``; ``clock`` tells the server's time."""
        self._epoch = epoch
        self._clock = clock

    def update(self, version: Version, _after: int = 0, /) -> bytes:
        """Return a `batch_update` event; it is whole, whatever was seen before."""
        frame = version.frames.get(self.name)
        if frame is None:
            body = b'{"batch":%b,"server_time":"%b"}' % (version.json, self._now())
            frame = self._frame(b"batch_update", body, version.sequence)
            version.frames[self.name] = frame
        return frame

    def together(self, frames: Sequence[bytes], _sequence: int, /) -> bytes:
        """Return the updates one after the other; each has its id."""
        return b"".join(frames)

    def snapshot(self, versions: Iterable[Version], sequence: int) -> bytes:
        """Return the `all_batches` event."""
        batches = b",".join(
            b'"%b":%b' % (version.state.batch_id.encode(), version.json) for version in versions
        )
        body = b'{"batches":{%b},"as_of":%d,"server_time":"%b"}' % (
            batches,
            sequence,
            self._now(),
        )
        return self._frame(b"all_batches", body, sequence)

    def heartbeat(self, cursor: int, *, log_away: bool) -> bytes:
        """Return a `heartbeat` event; its id keeps an idle or filtered client's place fresh.

        The id is the client's own cursor: with the head's, a client cut off before its pending
        frames would never ask for them. ``log_away`` tells that nothing new can come for now.
        """
        body = b'{"as_of":%d,"log_away":%b,"server_time":"%b"}' % (
            cursor,
            b"true" if log_away else b"false",
            self._now(),
        )
        return self._frame(b"heartbeat", body, cursor)

    def limited(self, batches: bytes, cursor: int) -> bytes:
        """Return a `limited` event; its id is the client's own cursor, as a heartbeat's."""
        body = b'{"batches":{%b},"server_time":"%b"}' % (batches, self._now())
        return self._frame(b"limited", body, cursor)

    def busy(self) -> bytes:
        """Return a `busy` event."""
        return b'event: busy\ndata: {"detail":"too many streams; connect again later"}\n\n'

    def _now(self) -> bytes:
        return self._clock().isoformat().replace("+00:00", "Z").encode()

    def _frame(self, event: bytes, body: bytes, sequence: int) -> bytes:
        place = format_position(sequence, self._epoch).encode()
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (place, event, body)


class DeltaFrames(NamedFrames):
    """Named events in which a batch that the client knows is told by what can change of it.

    The values are absolute, so any number of changes is one frame: a field that is missing has
    its default. The rest of a batch's view is as the client has it.
    """

    name = "deltas"

    def update(self, version: Version, after: int = 0, /) -> bytes:
        """Return `batch_delta`, or `batch_update` for a batch that came up after ``after``.

        It has no id: see ``together``.
        """
        is_new = version.first_sequence > after
        key = "new" if is_new else self.name
        frame = version.frames.get(key)
        if frame is None:
            if is_new:
                body = b'{"batch":%b,"server_time":"%b"}' % (version.json, self._now())
                frame = b"event: batch_update\ndata: %b\n\n" % body
            else:
                body = version.view.model_dump_json(
                    include=CHANGING, exclude_defaults=True
                ).encode()
                frame = b"event: batch_delta\ndata: %b\n\n" % body
            version.frames[key] = frame
        return frame

    def together(self, frames: Sequence[bytes], sequence: int, /) -> bytes:
        """Return the updates; the last one alone has an id.

        Who was cut off in the middle gets all of them again. With ids in between it would seem
        to know a batch whose first, whole frame it never got.
        """
        if not frames:
            return b""
        place = format_position(sequence, self._epoch).encode()
        return b"%bid: %b\n%b" % (b"".join(frames[:-1]), place, frames[-1])


class EventFrames(NamedFrames):
    """What stands between the events of the lossless flavour; the events are worded in the ring."""

    name = "events"

    def gap(self, first: int | None, last: int, reason: str) -> bytes:
        """Return a `gap` event: what lies in it can't be sent; ``first`` None: unknown."""
        body = orjson.dumps({"from": first, "to": last, "reason": reason})
        return self._frame(b"gap", body, last)


_SEED_WORDS = """Unnamed messages: first `all_batches` with the live batches, then a `batch_update`
per change with the whole state; a comment after 30 s of silence. Each id is
`<stream sequence>-<epoch>`; a client that sends one back gets what changed since."""

_NAMED_WORDS = """Events `all_batches` {batches, as_of, server_time}, `batch_update` {batch,
server_time} and, after a second of silence, `heartbeat` {as_of, log_away, server_time}. Each id is
`<stream sequence>-<epoch>`; a client that sends one back gets what changed since, or `all_batches`
when that is too long ago.

`limited` {batches: {id: limit}, server_time} tells all of the batches whose calls wait for a limit
of their route at the moment, at first and whenever that reads otherwise: others wait for none.

With `flavour=deltas` a batch that the client knows comes as
`batch_delta` {id, ...}: what can change of it, without the fields that are null, 0 or empty.

With `flavour=events` every event of the log comes once, named by its type, however old the id is;
`gap` {from, to, reason} tells of a range that can't be sent."""

FRAME_DOCS: dict[str, tuple[str, str]] = {
    "/api/generate/batch/stream": ("seed", _SEED_WORDS),
    "/v1/stream": ("named", _NAMED_WORDS),
}
"""Path -> (name, description) for the OpenAPI document."""
