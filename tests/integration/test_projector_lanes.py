"""A batch's lanes: who worked on it when, by node and by model, now and in the past."""

from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from millstream.eventlog.stored import Stored
from millstream.runtime.clock import utc_now
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.tape_log import TapeLog
from millstream_projector.opening import open_store
from millstream_projector.past.as_of import Past
from millstream_projector.projection import Projection
from millstream_projector.views import queries
from millstream_projector.views.lanes import BUCKETS_MOST, BUCKETS_MS
from millstream_projector.views.paging import RefusedError
from millstream_schemas.lanes import LANES_MOST, Lane, Lanes, LanesQuery


class Model:
    """A read model of what is on a tape, and the lanes that it tells."""

    def __init__(self, path: Path) -> None:
        self._store = open_store(path, stream="2026-01-01T00:00:00Z", last_sequence=10**9)
        self._projection = Projection(self._store)
        self.connection = self._store.reader()

    def fold(self, stored: list[Stored]) -> None:
        self._projection.advance(stored)

    def ask(self, script: Script, *, most_bytes: int = 900_000, **fields: Any) -> Lanes:
        request = LanesQuery(batch_id=script.batch_id, **fields)
        body = queries.answer(self.connection, "lanes", request, most_bytes=most_bytes)
        return Lanes.model_validate_json(body)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A read model that has folded nothing yet."""
    return Model(tmp_path)


def told(lane: Lane) -> dict[str, tuple[int, int]]:
    """Return how many events of each kind a lane has, and the sequence of the first."""
    return {
        kind: (sum(mark[1] for mark in marks), min(mark[2] for mark in marks))
        for kind, marks in lane.marks.items()
    }


def worked_on(script: Script) -> dict[str, int]:
    """Write a batch with every kind of mark; return the sequences that matter."""
    script.start()
    claimed = script.claim(0, node="one").sequence
    made = script.generate(0).sequence
    lost = script.fail_attempt(1, "timeout", "no token").sequence
    script.reject(1)
    rescued = script.claim(0, node="two", rescue_of="one").sequence
    script.generate(1)
    script.fail_attempt(2, "auth", "no key")
    failed = script.fail(2, "auth", "no key").sequence
    script.release(0)
    script.claim(1, node="two")
    script.abandon(4)
    stop = script.request_stop().sequence
    script.close(0)
    script.close(1)
    script.end_stop()
    return {
        "claimed": claimed,
        "made": made,
        "lost": lost,
        "rescued": rescued,
        "failed": failed,
        "stop": stop,
    }


def test_each_node_has_a_lane_and_the_batch_one_of_its_own(model: Model) -> None:
    script = Script(spec=example_spec(6, slice_size=4))
    at = worked_on(script)
    model.fold(script.tape.stored)
    own, one, two = model.ask(script).lanes
    assert [lane.name for lane in (own, one, two)] == [None, "one", "two"]
    assert told(own) == {"command": (1, 1), "stop": (2, at["stop"]), "closed": (2, at["stop"] + 1)}
    assert told(one) == {
        "claimed": (1, at["claimed"]),
        "made": (1, at["made"]),
        "lost": (2, at["lost"]),
    }
    assert told(two)["rescued"] == (1, at["rescued"])
    assert told(two)["failed"] == (1, at["failed"])
    assert {kind: count for kind, (count, _) in told(two).items()} == {
        "rescued": 1,
        "made": 1,
        "lost": 1,
        "failed": 1,
        "released": 1,
        "claimed": 1,
        "abandoned": 1,
    }


def test_each_model_has_a_lane_with_the_notes_of_its_route(model: Model) -> None:
    script = Script(spec=example_spec(4))
    script.start()
    script.claim(0)
    script.generate(0)
    script.throttle(5)
    model.fold(script.tape.stored)
    own, fast = model.ask(script, by="model").lanes
    assert (own.name, own.marks.keys()) == (None, {"command", "claimed"})
    assert (fast.name, fast.provider) == ("simulated/fast", "simulated")
    assert told(fast) == {"made": (1, 3), "note": (1, 4)}


def test_an_ended_batch_ends_with_its_last_event_and_a_live_one_now(model: Model) -> None:
    script = Script(spec=example_spec(2))
    script.start()
    script.claim(0)
    model.fold(script.tape.stored)
    done = len(script.tape.stored)
    assert abs(model.ask(script).end - utc_now()) < timedelta(minutes=1)
    script.generate(0)
    script.generate(1)
    script.complete()
    model.fold(script.tape.stored[done:])
    found = model.ask(script)
    assert found.end == script.tape.stored[-1].stored_at
    assert found.start == script.tape.stored[0].stored_at
    most = BUCKETS_MOST * found.bucket_ms
    assert (found.end - found.start).total_seconds() * 1000 <= most


def test_buckets_only_ever_get_coarser(model: Model) -> None:
    assert list(BUCKETS_MS) == sorted(set(BUCKETS_MS))
    assert all(after / before <= 2.5 for before, after in pairwise(BUCKETS_MS))


def test_lanes_beyond_what_an_answer_holds_are_counted(model: Model) -> None:
    script = Script(spec=example_spec(60, slice_size=1))
    script.start()
    for slot in range(60):
        script.claim(slot, node=f"node-{slot}")
        script.generate(slot)
    model.fold(script.tape.stored)
    found = model.ask(script)
    assert (len(found.lanes), found.left_out) == (LANES_MOST, 61 - LANES_MOST)
    assert [lane.name for lane in model.ask(script, limit=2).lanes] == [None, "node-0"]
    few = model.ask(script, most_bytes=600)
    assert few.lanes[0].name is None
    assert len(few.lanes) + few.left_out == 61
    assert few.left_out > LANES_MOST


def test_the_past_has_the_lanes_of_then(model: Model) -> None:
    script = Script(spec=example_spec(6, slice_size=4))
    at = worked_on(script)
    model.fold(script.tape.stored)
    request = LanesQuery(batch_id=script.batch_id, at_seq=at["lost"])
    past = Past(at["lost"], TapeLog(script.tape.stored))
    body = queries.answer(model.connection, "lanes", request, most_bytes=900_000, past=past)
    found = Lanes.model_validate_json(body)
    assert [lane.name for lane in found.lanes] == [None, "one"]
    assert (found.as_of, told(found.lanes[1])["lost"]) == (at["lost"], (1, at["lost"]))
    assert found.end == script.tape.stored[at["lost"] - 1].stored_at


def test_no_batch_has_no_lanes(model: Model) -> None:
    with pytest.raises(RefusedError):
        model.ask(Script())
