"""A generator whose wall clock jumps: what takes time takes as long by the log's clock."""

from datetime import datetime, timedelta, tzinfo

import pytest

from millstream.runtime import clock
from millstream.testing.scripted_llm import Answer, Delayed, Request, ScriptedLLM, Stall
from millstream.testing.site import Site, route, sample
from millstream_schemas.commands import StopBatch
from millstream_schemas.control import Budgets

pytestmark = pytest.mark.anyio

JUMPS = pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1)])


def put(monkeypatch: pytest.MonkeyPatch, jump: timedelta) -> None:
    """Put the wall clock of this process forward."""

    class Jumped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Jumped":
            return super().now(tz) + jump

    monkeypatch.setattr(clock, "datetime", Jumped)


@JUMPS
async def test_a_budget_of_time_is_the_logs_time(
    direct_site: Site, monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    def answer(request: Request) -> Answer:
        return Delayed(sample(request), delay_s=0.1)

    async with ScriptedLLM(answer) as llm, direct_site.generator():
        batch_id = await direct_site.begin(
            llm.base_url, 10_000, budgets=Budgets(max_duration_s=2.0)
        )
        await llm.wait_for(lambda found: len(found) >= 8)
        put(monkeypatch, jump)
        state = await direct_site.ended(batch_id)
    assert state.stop is not None
    assert state.started is not None
    assert state.stop.event.reason.startswith("budget_duration: ")
    assert state.stop.stored_at - state.started.stored_at >= timedelta(seconds=1.9)


@JUMPS
async def test_a_drain_lasts_as_long_by_the_logs_clock(
    direct_site: Site, monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    async with ScriptedLLM([Stall()]) as llm, direct_site.generator():
        batch_id = await direct_site.begin([route(llm.base_url, stall_s=60)], 20)
        await llm.wait_for(lambda _: llm.open_requests == 8)
        await direct_site.command(batch_id, StopBatch(mode="drain", grace_s=1))
        put(monkeypatch, jump)
        state = await direct_site.ended(batch_id)
    assert state.stop is not None
    assert state.finished_at is not None
    assert state.finished_at - state.stop.stored_at >= timedelta(seconds=0.9)
