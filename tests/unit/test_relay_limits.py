"""Which clients are sent what limits batches, and when: not for a number that they do not show."""

from datetime import UTC, datetime, timedelta
from typing import Any

from millstream_api.relay.client import Client
from millstream_api.relay.frames import NamedFrames
from millstream_api.relay.limits import LOOK_S, MANY, MANY_LOOK_S, Limits
from millstream_schemas.limited import LimitedBy

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FRAMES = NamedFrames("0a1b2c3d", lambda: NOON)


class Pipe:
    """A connection to which nothing is written."""

    paused_since: float | None = None

    def follow(self, client: Client | None) -> None:
        """Follow nobody."""

    def write(self, body: bytes) -> None:
        raise AssertionError(body)

    def abort(self) -> None:
        """Drop nothing."""


def client(*batch_ids: str, cursor: int = 1) -> Client:
    return Client(FRAMES, cursor, frozenset(batch_ids) or None, Pipe())


def by(in_s: float | None = 5, message: str = "its route's limit", **fields: Any) -> LimitedBy:
    next_at = None if in_s is None else NOON + timedelta(seconds=in_s)
    return LimitedBy(
        kind="requests", model="m", limit=60, message=message, next_at=next_at, **fields
    )


def test_a_client_is_sent_a_frame_only_where_its_own_part_reads_otherwise() -> None:
    limits, every, one, none = Limits(), client(), client("b1"), client("b9")
    clients = (every, one, none)
    assert all(b'"batches":{}' in limits.news(each) for each in clients)  # at first
    assert limits.put({"b1": by(), "b2": by()})
    frames = [limits.news(each) for each in clients]
    assert [b'"b1":' in frame for frame in frames] == [True, True, False]
    assert [b'"b2":' in frame for frame in frames] == [True, False, False]
    assert frames[2] == b""
    assert limits.put({"b1": by(), "b2": by(message="another")})
    assert [bool(limits.news(each)) for each in clients] == [True, False, False]
    assert limits.put({"b2": by(message="another")})
    assert [bool(limits.news(each)) for each in clients] == [True, True, False]
    assert [limits.news(each) for each in clients] == [b"", b"", b""]


def test_what_readers_do_not_see_makes_no_frame() -> None:
    limits = Limits()
    assert limits.put({"b1": by()})
    assert not limits.put({"b1": by(in_flight=3, waiting=9)})
    assert not limits.put({"b1": by(5.6)})
    assert not limits.put({"b1": by(6)})
    assert limits.put({"b1": by(6.2)})  # by more than a second since it was told
    assert limits.put({"b1": by(None)})
    assert not limits.put({"b1": by(None)})
    assert limits.put({"b1": by(None, "another")})
    assert limits.put({})


def test_those_who_asked_for_no_batch_are_sent_one_frame_made_once() -> None:
    limits = Limits()
    limits.put({"b1": by()})
    first = limits.news(client())
    assert limits.news(client()) is first
    assert limits.news(client(cursor=2)).startswith(b"id: 2-")
    limits.put({"b1": by(9)})
    assert limits.news(client()) != first


def test_many_limited_batches_are_looked_at_less_often() -> None:
    limits = Limits()
    limits.put({f"b{number}": by() for number in range(MANY)})
    assert limits.look_s == LOOK_S
    limits.put({f"b{number}": by() for number in range(MANY + 1)})
    assert limits.look_s == MANY_LOOK_S
