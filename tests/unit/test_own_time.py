"""The processor time of one piece of work, told apart from what its loop does meanwhile."""

import asyncio
import time

import pytest

from millstream.runtime.own_time import own_time
from millstream_generator import rounds

pytestmark = pytest.mark.anyio


class Processor:
    """A clock that stands still unless somebody works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.used_s = 0.0
        monkeypatch.setattr(time, "thread_time", lambda: self.used_s)

    async def work(self, seconds: float, times: int) -> str:
        """Take so much of its time so many times, and let others run in between."""
        for _ in range(times):
            self.used_s += seconds
            await asyncio.sleep(0)
        return "done"


async def test_only_the_works_own_steps_count_not_those_of_tasks_that_run_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processor = Processor(monkeypatch)
    async with asyncio.TaskGroup() as tasks:
        other = tasks.create_task(processor.work(100.0, 8))
        assert await own_time(processor.work(1.0, 4)) == ("done", 4.0)
    assert (other.result(), processor.used_s) == ("done", 804.0)


async def test_what_the_work_raises_and_its_cancellation_come_through() -> None:
    async def broken() -> None:
        await asyncio.sleep(0)
        raise ValueError("of its own")

    async def waiting() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "told"
        return "never"

    with pytest.raises(ValueError, match="of its own"):
        await own_time(broken())
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(_first(waiting()))
        await asyncio.sleep(0)
        task.cancel()
    assert task.result() == "told"


async def _first(work: object) -> str:
    found, _ = await own_time(work)  # type: ignore[arg-type]
    return str(found)


@pytest.mark.parametrize(
    ("taken_s", "own_s", "pause_s"), [(0.05, 0.05, 3.0), (60.0, 0.1, 5.0), (3.0, 2.0, 40.0)]
)
def test_a_round_that_waits_is_soon_followed_and_one_that_computes_is_not(
    taken_s: float, own_s: float, pause_s: float
) -> None:
    assert rounds.pause_after(taken_s, own_s, rounds.RECONCILE_S, 0.02) == pause_s
