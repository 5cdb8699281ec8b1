"""Permits by the times of who reads them, whatever the server's clock does."""

import pytest

from millstream.domain import permits as rules
from millstream.domain.limits import RouteState
from millstream.domain.permits import TURN_S, Permit
from millstream.eventlog.sightings import Sightings

START = 1_767_225_600.0


@pytest.mark.parametrize("jump_s", [0.0, -3_600.0, 3_600.0])
def test_a_permit_changes_hands_after_its_turn_also_where_the_clock_was_put_back(
    jump_s: float,
) -> None:
    shared: dict[str, Permit] = {}
    for node in ("a", "b"):
        shared = rules.asked(shared, node, START, most=1, used=0, wanted=5)
    assert (shared["a"].held, shared["b"].held) == (1, 0)
    sightings, stored = Sightings(), RouteState(permits=shared)
    sightings.seen("route", stored, START)
    now = START + jump_s
    seen = sightings.seen("route", stored, now)
    permits = rules.asked(seen.permits, "a", now + TURN_S, most=1, used=0, wanted=5)
    assert (permits["a"].held, permits["b"].held) == (0, 1)
