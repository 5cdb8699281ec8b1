"""How far the projection is: who waits for a sequence is served soon."""

import asyncio
from pathlib import Path

import pytest

from millstream_projector.measures import Measures
from millstream_projector.progress import Progress

pytestmark = pytest.mark.anyio

HOUR_S = 3_600.0


async def test_a_pause_ends_once_somebody_waits_for_a_sequence() -> None:
    progress = Progress(0, now_s=0.0)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        pause = tasks.create_task(progress.pause(0.0, HOUR_S, HOUR_S))
        await asyncio.sleep(0)
        assert await progress.wait_for(0, HOUR_S), "it is there, so nobody waits"
        assert not pause.done()
        waiting = tasks.create_task(progress.wait_for(5, HOUR_S))
        await pause
        await progress.pause(0.0, HOUR_S, HOUR_S)  # somebody waits still
        await progress.reach(4)
        assert not waiting.done()
        await progress.reach(5)
        assert await waiting


async def test_a_pause_lasts_once_nobody_waits_any_more() -> None:
    progress = Progress(0, now_s=0.0)
    assert not await progress.wait_for(1, 0.0)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        pause = tasks.create_task(progress.pause(0.0, HOUR_S, HOUR_S))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not pause.done()
        pause.cancel()


def test_what_came_since_the_look_before_the_last_is_not_due_yet(tmp_path: Path) -> None:
    progress = Progress(0, now_s=0.0)
    progress.saw_head(40, 0.0)
    assert progress.due == 40, "all that is there at the start has to be caught up with"
    progress.saw_head(540, 1.0)
    assert progress.due == 40
    progress.saw_head(1_040, 2.0)
    assert progress.due == 540
    figures = {figure.name: figure for figure in Measures(progress, tmp_path / "file").figures()}
    assert figures["millstream_lag_events"].values == {(): 540.0}, "as the page of nodes tells it"
