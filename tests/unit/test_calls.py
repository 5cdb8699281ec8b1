"""A call is cancelled without the task that makes it."""

import asyncio

import pytest

from millstream_generator.calls import Call

pytestmark = pytest.mark.anyio


async def make_call(calls: set[Call], began: asyncio.Event) -> str:
    began.set()
    with Call(calls):
        await asyncio.Event().wait()
    return "went on"


async def start(calls: set[Call], tasks: asyncio.TaskGroup) -> "asyncio.Task[str]":
    began = asyncio.Event()
    task = tasks.create_task(make_call(calls, began))
    await began.wait()
    return task


async def test_a_cancelled_call_ends_and_its_task_goes_on() -> None:
    calls: set[Call] = set()
    async with asyncio.TaskGroup() as tasks:
        task = await start(calls, tasks)
        for call in calls:
            call.cancel()
            call.cancel()
    assert task.result() == "went on"
    assert task.cancelling() == 0
    assert not calls


async def test_a_cancelled_task_ends_though_its_call_was_cancelled_too() -> None:
    calls: set[Call] = set()
    async with asyncio.TaskGroup() as tasks:
        task = await start(calls, tasks)
        for call in calls:
            call.cancel()
        task.cancel()
    assert task.cancelled()
    assert not calls


async def test_a_call_that_was_answered_is_cancelled_no_more() -> None:
    calls: set[Call] = set()
    with Call(calls) as call:
        pass
    call.cancel()
    await asyncio.sleep(0)
    assert not call.is_cancelled


async def test_what_a_call_raises_is_raised_on() -> None:
    calls: set[Call] = set()
    with pytest.raises(ValueError, match="refused"), Call(calls):
        raise ValueError("refused")
    assert not calls
