"""The relay's pure part: whoever holds an integer gets what is new, once."""

import json
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.cli.sse import Parser, ServerEvent
from millstream.domain.batch_state import BatchState
from millstream.domain.view import batch_view
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream_api.relay.client import Client
from millstream_api.relay.frames import DeltaFrames, Flavour, NamedFrames, SeedFrames
from millstream_api.relay.hub import Hub
from millstream_api.relay.positions import parse_position
from millstream_api.relay.versions import VersionMap
from millstream_api.seed import seed_state
from millstream_schemas.deltas import CHANGING, put_over
from millstream_schemas.views import BatchView

EPOCH = "0a1b2c3d"


def script(number: int, target: int = 4) -> Script:
    return Script(
        batch_id=f"batch_1767225600_{number:08x}", spec=example_spec(target, slice_size=2)
    )


def states(number: int) -> list[BatchState]:
    """Return the states of a batch after each of its events."""
    made = script(number)
    found = []
    for step in (
        made.start,
        lambda: made.claim(0),
        lambda: made.generate(0),
        lambda: made.fail_attempt(1),
        lambda: made.generate(1),
        lambda: made.stop("enough"),
    ):
        step()
        found.append(made.state)
    return found


def events_of(chunk: bytes) -> list[ServerEvent]:
    return list(Parser().feed(chunk))


class Nowhere:
    """A pipe that nothing is written to: here the hub is asked what it would send."""

    paused_since = None

    def follow(self, client: Client | None) -> None:
        """Wake nobody."""

    def write(self, body: bytes) -> None:
        raise AssertionError(f"nothing is pushed here: {body!r}")

    def abort(self) -> None:
        raise AssertionError("nobody is cut off here")


class Reader:
    """A client's side: the map that a page would hold, and the id it would send back."""

    def __init__(self, flavour: Flavour) -> None:
        self.flavour = flavour
        self.parser = Parser()
        self.batches: dict[str, Any] = {}
        self.seen: list[str] = []

    def connect(self) -> Client:
        position = parse_position(self.parser.last_id)
        self.parser = Parser(self.parser.last_id)
        return Client(self.flavour, position.sequence if position else None, None, Nowhere())

    def read(self, chunk: bytes) -> None:
        for event in self.parser.feed(chunk):
            body = json.loads(event.data)
            kind = body.get("type", event.name)
            if kind == "all_batches":
                self.batches = dict(body["batches"])
            elif kind == "batch_update":
                batch = body["batch"]
                self.batches[batch.get("id") or body["batch_id"]] = batch
                self.seen.append(event.last_id)
            elif kind == "batch_delta":
                self.batches[body["id"]] = put_over(self.batches[body["id"]], body)


@pytest.mark.parametrize(
    "flavour",
    [NamedFrames(EPOCH), DeltaFrames(EPOCH), SeedFrames(EPOCH)],
    ids=["named", "deltas", "seed"],
)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_client_that_is_cut_anywhere_holds_the_fold_in_the_end(
    flavour: Flavour, seed: int
) -> None:
    rng = Random(seed)
    hub = Hub(finals_kept=rng.choice([0, 1, 1000]))
    hub.restore([], 0, EPOCH)
    reader = Reader(flavour)
    client = reader.connect()
    waiting = {number: states(number) for number in range(4)}
    last: dict[str, BatchState] = {}
    sequence = 0
    while waiting:
        sequence += rng.randint(1, 3)  # events of other kinds lie in between
        number = rng.choice(list(waiting))
        state = waiting[number].pop(0)
        hub.put(state, sequence)
        last[state.batch_id] = state
        if not waiting[number]:
            del waiting[number]
        match rng.randrange(4):
            case 0:
                reader.read(hub.take(client))
            case 1:
                chunk = hub.take(client)
                reader.read(chunk[: rng.randint(0, len(chunk))])
                client = reader.connect()
            case 2:
                client.beat = True
                reader.read(hub.take(client))
    reader.read(hub.take(client))
    live = {
        batch_id
        for batch_id, held in reader.batches.items()
        if held.get("state") != "stopped" and held.get("running", True)
    }
    assert live == set()  # every batch ended, and the client knows or was given a snapshot
    for batch_id, held in reader.batches.items():
        view = batch_view(last[batch_id])
        expected = json.loads(view.model_dump_json())
        assert held == (expected if flavour.name != "seed" else seed_state(view))
    numbers = [int(seen.partition("-")[0]) for seen in reader.seen if flavour.name != "deltas"]
    assert numbers == sorted(set(numbers))  # nothing doubled, nothing out of order


def test_who_was_elsewhere_while_a_cold_fold_was_made_is_told_what_it_read_ahead() -> None:
    first, second = script(1), script(2)
    for made in (first, second):
        made.start()
        made.claim(0)
    first.generate(0)
    first.generate(1)
    ahead = [first.state, replace(second.state, sequence=5)]  # read after the head, which was at 1
    hub = Hub()
    hub.restore(ahead, 1, EPOCH)
    client = Client(NamedFrames(EPOCH), 3, None, Nowhere())  # it saw up to 3 elsewhere
    seen = []
    for sequence in range(2, 7):
        state = hub.versions.reached(sequence)
        if state is not None:
            hub.put(state, sequence)
        hub.advance(sequence)
        if sequence >= 3:
            seen += events_of(hub.take(client))
    assert [json.loads(event.data)["batch"]["id"] for event in seen] == [
        first.batch_id,
        second.batch_id,
    ]
    # An id each: who is cut between them gets the second one again, not never.
    assert [event.last_id for event in seen] == [f"4-{EPOCH}", f"5-{EPOCH}"]


def test_the_snapshot_holds_live_batches_only_and_an_update_tells_the_end() -> None:
    hub = Hub()
    ended, living = script(1), script(2)
    ended.run()
    living.start()
    hub.restore([living.state], 9, EPOCH)
    hub.put(ended.state, 10)
    client = Client(NamedFrames(EPOCH), None, None, Nowhere())
    first = events_of(hub.take(client))
    assert [event.name for event in first] == ["all_batches"]
    body = json.loads(first[0].data)
    assert set(body["batches"]) == {living.batch_id}
    assert body["as_of"] == 10
    assert first[0].last_id == f"10-{EPOCH}"
    back = Client(NamedFrames(EPOCH), 9, None, Nowhere())
    update = json.loads(events_of(hub.take(back))[0].data)["batch"]
    assert (update["id"], update["state"]) == (ended.batch_id, "completed")


def test_an_id_from_before_what_was_forgotten_gets_the_snapshot_again() -> None:
    hub = Hub(finals_kept=1)
    hub.restore([], 5, EPOCH)
    for number, sequence in ((1, 10), (2, 11)):
        made = script(number)
        made.run()
        hub.put(made.state, sequence)
    assert hub.versions.floor == 10
    for cursor, name in ((4, "all_batches"), (9, "all_batches"), (10, "batch_update")):
        client = Client(NamedFrames(EPOCH), cursor, None, Nowhere())
        assert [event.name for event in events_of(hub.take(client))] == [name]


def test_a_client_from_the_future_gets_the_snapshot() -> None:
    hub = Hub()
    hub.restore([], 5, EPOCH)
    client = Client(NamedFrames(EPOCH), 99, None, Nowhere())
    assert [event.name for event in events_of(hub.take(client))] == ["all_batches"]
    assert client.cursor == 5


def test_a_state_ahead_of_the_cold_fold_counts_as_of_the_fold() -> None:
    made = script(1)
    made.start()
    made.claim(0)
    versions = VersionMap()
    versions.restore([made.state], 1)
    assert [version.sequence for version in versions.changed(0)] == [1]
    assert versions.changed(1) == []


def test_a_filtered_client_gets_its_batches_and_a_heartbeat_moves_its_id() -> None:
    hub = Hub()
    hub.restore([], 0, EPOCH)
    mine, other = script(1), script(2)
    client = Client(NamedFrames(EPOCH), 0, frozenset({mine.batch_id}), Nowhere())
    mine.start()
    other.start()
    hub.put(mine.state, 1)
    hub.put(other.state, 2)
    client.beat = True
    found = events_of(hub.take(client))
    assert [event.name for event in found] == ["batch_update", "heartbeat"]
    assert json.loads(found[0].data)["batch"]["id"] == mine.batch_id
    assert found[1].last_id == f"2-{EPOCH}"


def test_a_frame_is_encoded_once_for_all_clients() -> None:
    hub = Hub()
    hub.restore([], 0, EPOCH)
    made = script(1)
    made.start()
    hub.put(made.state, 1)
    clients = [Client(NamedFrames(EPOCH), 0, None, Nowhere()) for _ in range(3)]
    chunks = [hub.take(client) for client in clients]
    version = hub.versions.get(made.batch_id)
    assert version is not None
    assert version.frames["named"] == chunks[0]
    assert hub.take(clients[0]) == b""


def test_a_seed_stream_names_no_event_and_beats_by_a_comment() -> None:
    hub = Hub()
    hub.restore([], 0, EPOCH)
    made = script(1)
    made.start()
    hub.put(made.state, 1)
    client = Client(SeedFrames(EPOCH), 0, None, Nowhere())
    client.beat = True
    chunk = hub.take(client)
    assert b"event:" not in chunk
    assert chunk.endswith(b": heartbeat\n\n")
    body = json.loads(events_of(chunk)[0].data)
    assert body["type"] == "batch_update"
    assert body["batch_id"] == made.batch_id
    assert body["batch"]["running"] is True


def test_a_running_batch_is_a_delta_below_300_bytes() -> None:
    hub = Hub()
    made = Script(batch_id="batch_1767225600_00000001", spec=example_spec(500, slice_size=64))
    made.start()
    made.claim(0)
    hub.restore([made.state], 1_000_000, EPOCH)
    client = Client(DeltaFrames(EPOCH), 1_000_000, None, Nowhere())
    for slot in range(64):
        made.generate(slot)
    hub.put(made.state, 1_000_100)
    chunk = hub.take(client)
    assert b"event: batch_delta" in chunk
    assert len(chunk) < 300
    held = json.loads(events_of(chunk)[0].data)
    assert held["counts"]["generated"] == 64
    fixed = BatchView.model_fields.keys() - CHANGING
    view = batch_view(made.state)
    made.stop("enough")
    ended = batch_view(made.state)
    assert view.model_dump(include=fixed) == ended.model_dump(include=fixed)
