"""Waking, waiting and ending of clients; the clocks themselves are not timed."""

import asyncio
from typing import Any

import pytest

from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.waiting import until
from millstream_api.relay.client import Client
from millstream_api.relay.endpoint import PIPE, RETRY_MS, Relay, read_query
from millstream_api.relay.frames import NamedFrames
from millstream_api.relay.hub import Hub, flush_pause

pytestmark = pytest.mark.anyio

EPOCH = "0a1b2c3d"


def script(number: int = 1) -> Script:
    made = Script(batch_id=f"batch_1767225600_{number:08x}", spec=example_spec(4, slice_size=2))
    made.start()
    return made


class Peer:
    """The other end of a stream: takes what the server sends, and what is written to the pipe."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.paused_since: float | None = None
        self.is_cut = False
        self.client: Client | None = None

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def follow(self, client: Client | None) -> None:
        self.client = client

    def write(self, body: bytes) -> None:
        self.sent.append({"body": body, "more_body": True})

    def abort(self) -> None:
        self.is_cut = True

    def leave(self) -> None:
        assert self.client is not None
        self.client.leave()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def is_complete(self) -> bool:
        return bool(self.sent) and self.sent[-1].get("more_body") is False


def client() -> Client:
    return Client(NamedFrames(EPOCH), None, None, Peer())


async def test_a_wake_during_a_write_is_not_lost() -> None:
    one = client()
    one.wake()
    one.wake()
    async with asyncio.timeout(5):
        await one.woken()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(one.woken())  # both wakes were one: nothing is left of them
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        one.wake()


def test_many_readers_get_fewer_writes_and_never_more_than_half_of_a_core() -> None:
    assert [flush_pause(used) for used in (0, 0.005, 0.015, 0.03)] == [0.008, 0.02, 0.04, 0.06]


async def test_changes_that_follow_each_other_reach_every_client() -> None:
    hub, state, peers = Hub(), script().state, [Peer() for _ in range(300)]
    hub.restore([state], 1, EPOCH)
    hub.ready.set()
    async with asyncio.TaskGroup() as tasks:
        flushing = tasks.create_task(hub.flush_changes())
        for peer in peers:
            tasks.create_task(serve(Relay(hub), peer, scope()))
        await until(lambda: all(b"all_batches" in peer.body for peer in peers))
        hub.put(state, 2)
        await until(lambda: any(b"id: 2-" in peer.body for peer in peers))
        hub.put(state, 3)
        await until(lambda: all(b"id: 3-" in peer.body for peer in peers))
        await hub.drain(0)
        flushing.cancel()


async def test_every_client_is_told_when_the_log_goes_and_comes_back() -> None:
    hub = Hub()
    before = client()
    hub.join(before)
    hub.take(before)
    await hub.tell_log_away(is_away=True)
    later = client()
    hub.join(later)
    for one in (before, later):
        assert b'"log_away":true' in hub.take(one)
    await hub.tell_log_away(is_away=True)
    assert hub.take(before) == b""
    await hub.tell_log_away(is_away=False)
    for one in (before, later):
        assert b'"log_away":false' in hub.take(one)


async def test_waiting_for_a_sequence_or_an_end_is_bounded() -> None:
    hub, made = Hub(), script()
    hub.put(made.state, 1)
    assert await hub.reach(1, 0.0)
    assert not await hub.reach(2, 0.01)
    assert not await hub.ended(made.batch_id, 0.01)
    async with asyncio.TaskGroup() as tasks:
        reaching = tasks.create_task(hub.reach(5, 20))
        ending = tasks.create_task(hub.ended(made.batch_id, 20))
        await asyncio.sleep(0)
        made.stop()
        hub.put(made.state, 4)
        hub.advance(5)
    assert reaching.result()
    assert ending.result()
    assert await hub.ended(made.batch_id, 0.0)


async def test_a_stuck_write_is_cut_off_and_others_are_not() -> None:
    hub = Hub(stuck_s=0.01)
    peers = [Peer(), Peer()]
    stuck, quick = (Client(NamedFrames(EPOCH), None, None, peer) for peer in peers)
    peers[0].paused_since = asyncio.get_running_loop().time() - 1
    for one in (stuck, quick):
        hub.join(one)
    async with asyncio.TaskGroup() as tasks:
        cutting = tasks.create_task(hub.cut_stuck())
        await until(lambda: peers[0].is_cut)
        cutting.cancel()
    assert not peers[1].is_cut


def scope(path: str = "/v1/stream", query: bytes = b"", **headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    return {"path": path, "method": "GET", "query_string": query, "headers": pairs}


async def serve(relay: Relay, peer: Peer, asked: dict[str, Any]) -> None:
    asked["extensions"] = {PIPE: peer}
    await relay(asked, read_query(asked), peer.send)


async def test_a_stream_begun_before_the_cold_fold_waits_for_it() -> None:
    hub, peer = Hub(), Peer()
    async with asyncio.TaskGroup() as tasks:
        flushing = tasks.create_task(hub.flush_changes())
        tasks.create_task(serve(Relay(hub), peer, scope()))
        await until(lambda: b"retry" in peer.body)
        assert b"all_batches" not in peer.body
        hub.restore([script().state], 7, EPOCH)
        hub.ready.set()
        hub.advance(7)
        await until(lambda: f"id: 7-{EPOCH}\nevent: all_batches".encode() in peer.body)
        peer.leave()
        await until(lambda: not hub.clients)
        flushing.cancel()


async def test_a_full_server_says_so_in_the_stream_and_an_ending_one_when_to_come_back() -> None:
    hub, peer = Hub(clients_most=0), Peer()
    await serve(Relay(hub), peer, scope())
    assert peer.sent[0]["status"] == 200
    assert b"retry: 30000" in peer.body
    assert b"event: busy" in peer.body
    assert peer.is_complete
    for room in (10, 0):  # a full one that ends says the same
        hub, peer = Hub(clients_most=room), Peer()
        await hub.drain(0)
        await serve(Relay(hub), peer, scope("/api/generate/batch/stream"))
        assert int(peer.body.partition(b"retry: ")[2]) <= RETRY_MS[1]  # and not another word


async def test_a_drain_sends_what_is_new_and_ends_each_stream() -> None:
    hub, made = Hub(), script()
    hub.restore([made.state], 1, EPOCH)
    hub.ready.set()
    peers = [Peer() for _ in range(5)]
    async with asyncio.TaskGroup() as tasks:
        for peer in peers:
            tasks.create_task(serve(Relay(hub), peer, scope()))
        await until(lambda: all(b"all_batches" in peer.body for peer in peers))
        made.pause()
        hub.put(made.state, 2)
        await hub.drain(0.01)
    for peer in peers:
        assert peer.is_complete
        assert f"id: 2-{EPOCH}\nevent: batch_update".encode() in peer.body
        assert peer.sent[-1]["body"].startswith(b"id: 2") or b"retry" in peer.sent[-1]["body"]
    assert not hub.clients


async def test_a_replica_that_is_behind_waits_for_what_the_client_has_seen() -> None:
    hub, peer = Hub(), Peer()
    made = script()
    hub.restore([made.state], 5, EPOCH)
    hub.ready.set()
    async with asyncio.TaskGroup() as tasks:
        flushing = tasks.create_task(hub.flush_changes())
        tasks.create_task(serve(Relay(hub), peer, scope(last_event_id=f"8-{EPOCH}")))
        await until(lambda: bool(hub.clients))
        hub.advance(8)
        made.pause()
        hub.put(made.state, 9)
        await until(lambda: b"id: 9-" in peer.body)
        assert b"all_batches" not in peer.body
        peer.leave()
        await until(lambda: not hub.clients)
        flushing.cancel()


async def test_a_peer_that_takes_nothing_gets_the_latest_state_alone_afterwards() -> None:
    hub, peer, made = Hub(), Peer(), script()
    hub.restore([made.state], 1, EPOCH)
    hub.ready.set()
    async with asyncio.TaskGroup() as tasks:
        flushing = tasks.create_task(hub.flush_changes())
        tasks.create_task(serve(Relay(hub), peer, scope()))
        await until(lambda: b"all_batches" in peer.body)
        peer.paused_since = 0.0
        for sequence, change in enumerate((made.pause, made.resume, made.pause), start=2):
            change()
            hub.put(made.state, sequence)
        assert peer.client is not None
        peer.client.wake()
        assert b"batch_update" not in peer.body
        peer.paused_since = None
        peer.client.wake()
        assert peer.body.count(b"batch_update") == 1
        assert b"id: 4-" in peer.body
        peer.leave()
        await until(lambda: not hub.clients)
        flushing.cancel()


async def test_what_goes_wrong_in_one_stream_is_its_own() -> None:
    hub, peers = Hub(), [Peer(), Peer()]
    hub.restore([script().state], 1, EPOCH)
    hub.ready.set()

    def fail(_: bytes) -> None:
        raise RuntimeError("broken")

    async def serve_broken() -> None:
        with pytest.raises(RuntimeError, match="broken"):
            await serve(Relay(hub), peers[0], scope())

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve_broken())
        tasks.create_task(serve(Relay(hub), peers[1], scope()))
        await until(lambda: all(b"all_batches" in peer.body for peer in peers))
        peers[0].write = fail  # type: ignore[method-assign]  # the fault
        hub.put(script().state, 2)
        woken = list(hub.clients)
        for one in woken:
            one.wake()
        await until(lambda: len(hub.clients) == 1)
        assert [one for one in woken if one.push is not None] == list(hub.clients)
        assert b"id: 2-" in peers[1].body
        peers[1].leave()


async def test_the_header_beats_the_query() -> None:
    asked = read_query(scope(query=b"last_event_id=3", last_event_id=f"9-{EPOCH}"))
    assert asked.position is not None
    assert asked.position.sequence == 9
    other = read_query(scope(query=b"last_event_id=3&batch_id=batch_1767225600_00000001"))
    assert other.position is not None
    assert other.position.sequence == 3
    assert other.batch_ids == frozenset({"batch_1767225600_00000001"})


async def test_an_end_in_the_moment_in_which_its_waiter_gives_up_is_told() -> None:
    hub, made = Hub(), script()
    hub.put(made.state, 1)
    made.run()
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(hub.ended(made.batch_id, 0.01))
        await asyncio.sleep(0)
        loop.call_later(0.01, hub.put, made.state, 2)
        due = loop.time() + 0.05
        while loop.time() < due:
            pass  # until both are due in one turn of the loop
    assert waiting.result()
