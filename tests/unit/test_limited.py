"""Which limits slow batches down, by what several generators say, and for how long that holds."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from millstream.domain.limited import limited_batches
from millstream.eventlog.limited import HOLDS_S, LimitedBatches
from millstream.testing import stalls
from millstream.testing.watch import Watch
from millstream_projector.heads import Known
from millstream_projector.stuck.judge import Judge
from millstream_schemas.envelope import EXACT_MOST
from millstream_schemas.limited import InLine, LimitedRoute, NodeLimits

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WAITS = InLine(in_flight=1, waiting=3, is_limited=True)
RUNS = InLine(in_flight=2)


def said(node: str, batches: dict[str, InLine], **fields: Any) -> NodeLimits:
    known = {"key": "k", "kind": "calls", "model": "m", "limit": 5, "taken": 5, **fields}
    return NodeLimits(node=node, routes=(LimitedRoute(batches=batches, **known),))


def test_all_nodes_calls_are_summed_and_all_their_batches_share_the_route() -> None:
    words = [said("a", {"b1": WAITS, "b2": RUNS}), said("b", {"b1": WAITS, "b3": WAITS})]
    found = limited_batches(words)
    assert found.keys() == {"b1", "b3"}
    by = found["b1"].by
    assert (by.in_flight, by.waiting, by.shared_with) == (2, 6, 2)
    assert by.message == "its route's limit: 5 of 5 calls in flight (shared with 2 other batches)"
    assert found["b1"].at_work == {"b1", "b2", "b3"}


def test_a_batch_that_only_runs_on_a_limited_route_waits_for_nothing() -> None:
    assert limited_batches([said("a", {"b1": RUNS}), said("b", {}, kind=None)]) == {}


def test_a_batch_is_told_of_the_route_where_most_of_its_calls_wait() -> None:
    few = InLine(waiting=1, is_limited=True)
    words = [said("a", {"b1": few}, key="one", model="one"), said("b", {"b1": WAITS})]
    assert limited_batches(words)["b1"].by.model == "m"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "requests", "limit": 60}, "60 requests a minute"),
        ({"kind": "tokens", "limit": 90_000}, "90,000 tokens a minute"),
        (
            {"kind": "requests", "limit": 60, "share": 0.5},
            "60 requests a minute, 50% of its usual pace after too many requests",
        ),
        (
            {"kind": "share", "limit": 0, "share": 0.25},
            "25% of its usual pace after too many requests",
        ),
        (
            {"kind": "share", "limit": 0, "share": 0.0},
            "less than 1% of its usual pace after too many requests",
        ),
        ({"kind": "calls", "limit": 2, "taken": 9}, "2 of 2 calls in flight"),
    ],
)
def test_each_limit_has_its_words(fields: dict[str, Any], words: str) -> None:
    found = limited_batches([said("a", {"b1": WAITS}, **fields)])
    assert found["b1"].by.message == f"its route's limit: {words}"


def test_the_next_call_is_the_earliest_of_all_nodes_and_unknown_where_one_may_start_now() -> None:
    later = [
        InLine(waiting=1, is_limited=True, next_at=NOON + timedelta(seconds=seconds))
        for seconds in (9, 4)
    ]
    words = [said(node, {"b1": line}) for node, line in zip("ab", later, strict=True)]
    assert limited_batches(words)["b1"].by.next_at == NOON + timedelta(seconds=4)
    assert limited_batches([*words, said("c", {"b1": WAITS})])["b1"].by.next_at is None


def test_a_dead_nodes_word_expires_and_a_living_ones_is_replaced() -> None:
    now = [0.0]
    limited = LimitedBatches(lambda: now[0])
    limited.hear(said("dead", {"b1": WAITS}))
    limited.hear(said("lives", {"b2": WAITS}))
    assert limited.now().keys() == {"b1", "b2"}
    now[0] = HOLDS_S - 0.1
    limited.hear(said("lives", {"b3": WAITS}))
    assert limited.now().keys() == {"b1", "b3"}
    now[0] = HOLDS_S
    assert limited.now().keys() == {"b3"}
    limited.hear(NodeLimits(node="lives"))
    assert limited.now() == {}


ODD = (
    b"",
    b"[]",
    b'{"node": 7}',
    b'{"node": "a", "routes": [{"key": "k", "model": "m", "batches": 3}]}',
    *(
        b'{"node": "a", "routes": [{"key": "k", "kind": "calls", "model": "m", %b}]}' % fields
        for fields in (
            b'"share": NaN, "batches": {}',
            b'"share": -0.5, "batches": {}',
            b'"share": 1e300, "batches": {}',
            b'"limit": -1, "batches": {}',
            b'"limit": %b, "batches": {}' % (b"9" * 5000),
            b'"limit": "many", "batches": {}',
            b'"kind": "mood", "batches": {}',
            b'"batches": {"b1": {"waiting": -3}}',
            b'"batches": {"b1": {"next_at": "0001-01-01T00:00:00+14:00"}}',
            b'"batches": {"b1": {"next_at": 1e300}}',
        )
    ),
)


class Heard(LimitedBatches):
    """Takes words as they come over NATS."""

    async def take(self, data: bytes) -> None:
        await self._take(Msg(Client(), subject="limited.a", data=data))


@pytest.mark.anyio
async def test_words_that_make_no_sense_are_refused_and_said_once() -> None:
    heard = Heard()
    heard.hear(said("b", {"b1": WAITS}))
    with structlog.testing.capture_logs() as logs:
        for word in ODD:
            await heard.take(word)
            assert heard.now().keys() == {"b1"}
    assert [line["event"] for line in logs] == ["limited.unreadable"]


@pytest.mark.anyio
async def test_numbers_beyond_what_json_holds_are_told_as_the_most_it_does() -> None:
    heard = Heard()
    line = b'{"b1": {"is_limited": true, "waiting": 1%b}}' % (b"0" * 300)
    await heard.take(
        b'{"node": "a", "routes": [{"key": "k", "kind": "calls", "model": "m", "batches": %b}]}'
        % line
    )
    assert heard.now()["b1"].by.waiting == EXACT_MOST


@pytest.mark.anyio
async def test_what_cannot_be_put_together_ends_nobody_who_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: object) -> None:
        raise OverflowError

    monkeypatch.setattr("millstream.eventlog.limited.limited_batches", fail)
    heard = Heard()
    heard.hear(said("b", {"b1": WAITS}))
    with structlog.testing.capture_logs() as logs:
        assert heard.now() == heard.now() == {}
    assert [line["event"] for line in logs] == ["limited.unreadable"]


def in_line(in_flight: int = 0) -> tuple[Watch, stalls.Scene, Any]:
    """A batch in line behind another one of its route, which goes on with ``each``."""
    watch = Watch(Judge(floor_s=30.0, lease_s=10.0), Known)
    scene = stalls.working(watch)
    other = watch.script()
    other.start()
    other.claim(0)
    idle = InLine(in_flight=in_flight, waiting=3, is_limited=True)
    lines = {scene.script.batch_id: idle, other.batch_id: RUNS}
    watch.limited = limited_batches([said("node-1", lines)])
    return watch, scene, other


def test_a_batch_in_line_is_not_stuck_as_long_as_the_others_of_its_route_move() -> None:
    watch, scene, other = in_line()

    def each() -> None:
        other.release(0)
        other.claim(0)
        other.fail_attempt(0)

    watch.run(200, each)
    assert [alarm for alarm in watch.alarms if alarm.batch_id == scene.script.batch_id] == []


def test_a_batch_in_line_is_found_by_its_limit_once_its_whole_route_stands_still() -> None:
    watch, scene, _ = in_line()
    watch.run(35)
    finding = scene.script.state.stuck
    assert finding is not None
    assert finding.rule == "no_progress"
    assert finding.cause.endswith(
        "s and no call in flight: all wait for its route's limit: 5 of 5 calls in flight"
        " (shared with 1 other batch)"
    )
    assert "the other batches of this model" in finding.suggestion


def test_a_batch_in_line_waits_no_longer_than_any_other_may() -> None:
    watch, scene, other = in_line()
    watch.run(890, lambda: other.fail_attempt(0))
    assert scene.script.state.stuck is None
    watch.run(20, lambda: other.fail_attempt(0))
    assert scene.script.state.stuck is not None


def test_the_model_is_the_cause_for_a_batch_whose_own_calls_are_silent() -> None:
    watch, scene, _ = in_line(in_flight=2)
    watch.run(35)
    finding = scene.script.state.stuck
    assert finding is not None
    assert "limit" not in finding.cause
    assert "check that the model's endpoint answers" in finding.suggestion
