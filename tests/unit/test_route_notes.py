"""What of its waits a batch has yet to be told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millstream_generator.waits import Wait, is_news, is_own_news
from millstream_schemas import notes
from millstream_schemas.envelope import Actor, BatchEvent

UNTIL = datetime(2026, 1, 1, 12, tzinfo=UTC)


def note(kind: type[BatchEvent], **fields: Any) -> BatchEvent:
    return kind(
        id="0" * 32,
        source="test",
        subject="mill.events.batch_1767225600_00000001.note",
        time=UNTIL,
        actor=Actor(kind="node", id="g1"),
        causation_id="test",
        batch_id="batch_1767225600_00000001",
        **{"model": "a/model", **fields},
    )


def wait(kind: Any, model: str = "a/model", later_s: float = 0.0) -> Wait:
    return Wait("route.x", model, kind, UNTIL + timedelta(seconds=later_s), "")


THROTTLED = note(notes.RouteThrottled, until=UNTIL)
LATER = note(notes.RouteThrottled, until=UNTIL + timedelta(seconds=60))
BLOCKED = note(notes.RouteBlocked, until=UNTIL)
RECOVERED = note(notes.RouteRecovered)


@pytest.mark.parametrize(
    ("what", "known", "expected"),
    [
        (wait("throttled"), [], True),
        (wait("throttled"), [THROTTLED], False),
        (wait("throttled", later_s=0.5), [THROTTLED], False),
        (wait("throttled", later_s=10), [THROTTLED], True),
        (wait("throttled", later_s=-10), [THROTTLED], False),
        (wait("throttled", "other/model"), [THROTTLED], True),
        (wait("throttled"), [BLOCKED], True),
        (wait("throttled"), [THROTTLED, RECOVERED], False),
        (wait("blocked"), [BLOCKED, RECOVERED], False),
        (wait("blocked", later_s=3), [BLOCKED, THROTTLED], True),
    ],
)
def test_each_cooldown_and_each_pause_of_a_route_is_told_once(
    what: Wait, known: list[BatchEvent], *, expected: bool
) -> None:
    assert is_news(what, known, is_other=False) is expected


@pytest.mark.parametrize(
    ("what", "known", "expected"),
    [
        (wait("throttled"), [LATER], True),
        (wait("throttled"), [THROTTLED], False),
        (wait("throttled"), [THROTTLED, RECOVERED], True),
        (wait("throttled"), [THROTTLED, BLOCKED], True),
    ],
)
def test_a_wait_for_another_route_is_told_whatever_was_told_of_the_one_before(
    what: Wait, known: list[BatchEvent], *, expected: bool
) -> None:
    assert is_news(what, known, is_other=True) is expected


@pytest.mark.parametrize(
    ("what", "known", "now_s", "expected"),
    [
        (wait("throttled"), [], -30, True),
        (wait("throttled"), [THROTTLED, RECOVERED], -30, False),
        (wait("throttled"), [LATER], -30, True),
        (wait("throttled", later_s=60), [THROTTLED], -30, False),
        (wait("throttled", later_s=60), [THROTTLED], 1, True),
        (wait("throttled", later_s=60), [THROTTLED, RECOVERED], -30, True),
    ],
)
def test_of_two_nodes_times_for_a_pace_the_earlier_one_is_told(
    what: Wait, known: list[BatchEvent], now_s: float, *, expected: bool
) -> None:
    assert is_own_news(what, known, UNTIL + timedelta(seconds=now_s)) is expected
