"""What of a route's changes a batch has yet to be told."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millstream_generator.route_notes import Change, is_news
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


def change(kind: Any, model: str = "a/model", later_s: float = 0.0) -> Change:
    return Change("route.x", model, kind, UNTIL + timedelta(seconds=later_s))


THROTTLED = note(notes.RouteThrottled, until=UNTIL)
BLOCKED = note(notes.RouteBlocked, until=UNTIL)
RECOVERED = note(notes.RouteRecovered)


@pytest.mark.parametrize(
    ("what", "known", "expected"),
    [
        (change("throttled"), [], True),
        (change("throttled"), [THROTTLED], False),
        (change("throttled", later_s=0.5), [THROTTLED], False),
        (change("throttled", later_s=10), [THROTTLED], True),
        (change("throttled", "other/model"), [THROTTLED], True),
        (change("throttled"), [BLOCKED], True),
        (change("throttled"), [THROTTLED, RECOVERED], False),
        (change("blocked"), [BLOCKED, RECOVERED], False),
        (change("blocked", later_s=3), [BLOCKED, THROTTLED], True),
        (change("recovered"), [], False),
        (change("recovered"), [BLOCKED], True),
        (change("recovered"), [BLOCKED, RECOVERED], False),
        (change("recovered", "other/model"), [BLOCKED], False),
    ],
)
def test_each_cooldown_and_each_pause_of_a_route_is_told_once(
    what: Change, known: list[BatchEvent], *, expected: bool
) -> None:
    assert is_news(what, known) is expected
