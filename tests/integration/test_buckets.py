"""Key-value buckets and the nodes' signs of life."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from nats.aio.msg import Msg

from millstream.errors import ConflictError, LogUnavailableError
from millstream.eventlog.answers import subscribed
from millstream.eventlog.buckets import Bucket
from millstream.eventlog.nodes import Nodes, keep_beating
from millstream.testing.nats import RunningLog
from millstream.testing.waiting import BOUND_S
from millstream_schemas import subjects
from millstream_schemas.answers import NodeBeat

pytestmark = pytest.mark.anyio

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def bucket(running: RunningLog) -> Bucket:
    return Bucket(running.event_log.answers, subjects.LIMITS_BUCKET)


def beat(node: str = "one", service: str = "generator", in_flight: int = 0) -> NodeBeat:
    return NodeBeat(node=node, service=service, in_flight=in_flight, started_at=BEGIN)


async def test_a_value_is_read_back_with_its_revision(bucket: Bucket) -> None:
    assert await bucket.get("route.a") is None
    first = await bucket.put("route.a", b"one")
    second = await bucket.put("route.a", b"\x00two")
    entry = await bucket.get("route.a")
    assert entry is not None
    assert (entry.value, entry.revision) == (b"\x00two", second)
    assert first < second
    await bucket.put("empty", b"")
    empty = await bucket.get("empty")
    assert empty is not None
    assert empty.value == b""
    assert sorted(await bucket.keys()) == ["empty", "route.a"]


async def test_only_the_expected_revision_is_replaced(bucket: Bucket) -> None:
    first = await bucket.put("key", b"one", expected=0)
    with pytest.raises(ConflictError):
        await bucket.put("key", b"other", expected=0)
    second = await bucket.put("key", b"two", expected=first)
    with pytest.raises(ConflictError):
        await bucket.put("key", b"late", expected=first)
    entry = await bucket.get("key")
    assert entry is not None
    assert (entry.value, entry.revision) == (b"two", second)


async def test_one_of_many_writers_wins(bucket: Bucket) -> None:
    async def claim(number: int) -> bool:
        try:
            await bucket.put("key", str(number).encode(), expected=0)
        except ConflictError:
            return False
        return True

    async with asyncio.TaskGroup() as group:
        claims = [group.create_task(claim(number)) for number in range(20)]
    assert [task.result() for task in claims].count(True) == 1


async def test_a_deleted_key_is_absent_and_can_be_made_again(bucket: Bucket) -> None:
    await bucket.put("key", b"one", expected=0)
    await bucket.delete("key")
    await bucket.delete("never")
    assert await bucket.get("key") is None
    revision = await bucket.put("key", b"two", expected=0)
    entry = await bucket.get("key")
    assert entry is not None
    assert (entry.value, entry.revision) == (b"two", revision)
    with pytest.raises(ConflictError):
        await bucket.put("key", b"three", expected=0)


async def test_a_bucket_nobody_made_is_an_error(running: RunningLog) -> None:
    missing = Bucket(running.event_log.answers, "missing")
    with pytest.raises(LogUnavailableError):
        await missing.get("key")
    with pytest.raises(LogUnavailableError):
        await missing.put("key", b"")


async def test_nodes_that_beat_live_until_they_leave(running: RunningLog) -> None:
    nodes = Nodes(running.event_log.answers)
    assert await nodes.live() == []
    await nodes.beat(beat("one", in_flight=3))
    await nodes.beat(beat("one", in_flight=4))
    await nodes.beat(beat("two", "projector"))
    await nodes.beat(beat("three", "unheard"))
    assert sorted(await nodes.live(), key=lambda found: found.node) == [
        beat("one", in_flight=4),
        beat("two", "projector"),
    ]
    await nodes.leave("generator", "one")
    assert await nodes.live() == [beat("two", "projector")]


async def test_beating_ends_with_its_stop(running: RunningLog) -> None:
    nodes = Nodes(running.event_log.answers)
    stop = asyncio.Event()
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        group.create_task(keep_beating(nodes, stop, beat))
        while not await nodes.live():
            await asyncio.sleep(0.01)
        stop.set()


async def test_a_write_waits_for_what_comes_of_another_one_under_way(running: RunningLog) -> None:
    """A cluster says so without telling the revision; the words are the server's."""
    answers = running.event_log.answers
    said = [10164, 10164, None, 10164, 10071]

    async def answer(message: Msg) -> None:
        code = said.pop(0)
        error = {"code": 400, "err_code": code, "description": "wrong last sequence"}
        await message.respond(json.dumps({"error": error} if code else {"seq": 7}).encode())

    async with subscribed(running.event_log.connection, "$KV.elsewhere.key", answer):
        elsewhere = Bucket(answers, "elsewhere")
        assert await elsewhere.put("key", b"one", expected=6) == 7
        with pytest.raises(ConflictError):
            await elsewhere.put("key", b"two", expected=6)
    assert said == []
