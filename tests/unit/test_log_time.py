"""The log's time: known from the server's stamps, whatever this machine's wall clock says."""

from datetime import UTC, datetime, timedelta

import pytest

from millstream.eventlog import log_time
from millstream.eventlog.log_time import LogTime
from millstream.testing.wrong_clock import WrongClock

TRUE = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds that the clock which nobody sets shows, in a list of one."""
    shown = [1000.0]
    monkeypatch.setattr(log_time, "boot_seconds", lambda: shown[0])
    return shown


def answer(time: LogTime, steady: list[float], at_s: float, *, took_s: float = 0.001) -> None:
    """Let the server stamp ``at_s`` seconds after ``TRUE`` in the middle of an exchange."""
    stamp = TRUE + timedelta(seconds=at_s)
    time.note(stamp, asked_s=steady[0] - took_s, heard_s=steady[0])


@pytest.mark.parametrize("ahead_s", [7200, -7200, 259_200])
def test_a_wrong_wall_clock_changes_nothing_and_is_told(
    steady: list[float], monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    wall = WrongClock(monkeypatch)
    time = LogTime()
    answer(time, steady, 0)
    wall.ahead_s = ahead_s
    steady[0] += 60
    assert time.now() - TRUE == pytest.approx(timedelta(seconds=60), abs=timedelta(seconds=0.001))
    time.note(log_time.utc_now() - timedelta(seconds=ahead_s), asked_s=steady[0], heard_s=steady[0])
    assert time.clock_ahead_s() == pytest.approx(ahead_s, abs=1)


def test_before_the_first_answer_it_is_this_machines_time_and_said_so() -> None:
    time = LogTime()
    assert time.clock_ahead_s() is None
    assert abs(time.now() - log_time.utc_now()) < timedelta(seconds=60)


def test_a_slow_answer_spoils_nothing_that_is_known_better(steady: list[float]) -> None:
    time = LogTime()
    answer(time, steady, 0, took_s=0.002)
    steady[0] += 10
    time.note(TRUE + timedelta(seconds=5), asked_s=steady[0] - 6, heard_s=steady[0])
    assert abs(time.now() - TRUE - timedelta(seconds=10)) <= timedelta(seconds=0.002)
    assert time.jumps == 0


def test_a_quick_answer_mends_what_a_slow_one_told(steady: list[float]) -> None:
    time = LogTime()
    answer(time, steady, 0, took_s=2.0)
    steady[0] += 10
    answer(time, steady, 10.0)
    assert abs(time.now() - TRUE - timedelta(seconds=10)) <= timedelta(seconds=0.002)


def test_a_server_whose_clock_is_set_is_followed_and_the_jump_counted(steady: list[float]) -> None:
    time = LogTime()
    answer(time, steady, 0)
    answer(time, steady, 7200)
    assert abs(time.now() - TRUE - timedelta(hours=2)) <= timedelta(seconds=0.002)
    assert time.jumps == 1
