"""What generators say of limits stands in the API's answers and streams, as long as it holds."""

import asyncio
import json
from typing import Any

import pytest

from millstream.cli.client import Server
from millstream.cli.display import batch_lines, state_line
from millstream.cli.sse import Parser
from millstream.cli.watch import watch_batches
from millstream.testing.events import Script
from millstream.testing.waiting import until
from millstream_schemas import subjects
from millstream_schemas.limited import InLine, LimitedRoute, NodeLimits

pytestmark = pytest.mark.anyio

WORDS = "its route's limit: 5 of 5 calls in flight"


async def say(api: Any, *batch_ids: str, node: str = "g1", **fields: Any) -> None:
    """Let a generator say that calls of these batches wait for a route's limit."""
    lines = {one: InLine(in_flight=2, waiting=6, is_limited=True) for one in batch_ids}
    known = {"key": "k", "kind": "calls", "model": "m", "limit": 5, "taken": 5, **fields}
    limited = LimitedRoute(batches=lines, **known)
    word = NodeLimits(node=node, routes=(limited,) if lines else ())
    await api.log.event_log.answers.send(subjects.limited(node), word.model_dump_json().encode())


class Told:
    """The last `limited` event of a stream."""

    def __init__(self) -> None:
        self.batches: dict[str, Any] | None = None

    async def follow(self, api: Any, query: str = "") -> None:
        parser = Parser()
        async with api.client.stream("GET", f"/v1/stream{query}") as answer:
            async for chunk in answer.aiter_bytes():
                for event in parser.feed(chunk):
                    if event.name == "limited":
                        self.batches = json.loads(event.data)["batches"]


@pytest.fixture
def script() -> Script:
    """A batch at work."""
    script = Script()
    script.start()
    script.claim(0)
    return script


async def test_a_batch_says_what_its_calls_wait_for_and_no_longer_than_they_do(
    api: Any, script: Script
) -> None:
    await api.append(script.tape.entries)
    path, found = f"/v1/batches/{script.batch_id}", Told()
    other, none = Told(), "?batch_id=batch_1767225600_ffffffff"
    async with asyncio.TaskGroup() as tasks:
        following = [
            tasks.create_task(found.follow(api)),
            tasks.create_task(other.follow(api, none)),
        ]
        await until(lambda: found.batches == {} == other.batches)  # said at first, too
        await say(api, script.batch_id)
        await until(lambda: bool(found.batches))
        answer = (await api.client.get(path)).json()
        page = (await api.client.get("/v1/batches")).json()
        past = (await api.client.get(path, params={"at_seq": answer["as_of"]})).json()
        await say(api)
        await until(lambda: found.batches == {})
        after = (await api.client.get(path)).json()
        for task in following:
            task.cancel()
    by = answer["limited_by"]
    assert (by["message"], by["waiting"], by["in_flight"]) == (WORDS, 6, 2)
    assert page["limited"] == {script.batch_id: by}
    assert past["limited_by"] is after["limited_by"] is None
    assert other.batches == {}
    assert state_line(answer["batch"], by).endswith(f" running (waits for {WORDS}) 0/10")
    assert f"waits for      {WORDS}" in batch_lines(answer["batch"], by)


async def test_who_watches_a_batch_is_told_of_a_wait_and_of_its_end(
    lone_api: Any, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    def watch() -> None:
        with Server(lone_api.url, None) as server:
            watch_batches(server, [script.batch_id], draw=True)

    await lone_api.append(script.tape.entries)
    begun, lines = len(script.tape.entries), ""

    def is_shown(words: str) -> bool:
        nonlocal lines
        lines += capsys.readouterr().out
        return words in lines

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.to_thread(watch))
        await until(lambda: is_shown("running 0/10"))
        await say(lone_api, script.batch_id)
        await until(lambda: is_shown(f"running (waits for {WORDS}) 0/10"))
        lines = ""
        await say(lone_api)
        await until(lambda: is_shown("running 0/10"))
        script.stop()
        await lone_api.append(script.tape.entries[begun:])


async def test_a_paused_batch_waits_for_no_limit_and_unreadable_words_are_passed_over(
    lone_api: Any, script: Script
) -> None:
    script.pause()
    await lone_api.append(script.tape.entries)
    found = Told()
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(found.follow(lone_api))
        await lone_api.log.event_log.answers.send(subjects.limited("g0"), b'{"routes": 3}')
        await say(lone_api, script.batch_id)
        await until(lambda: bool(found.batches))
        answer = (await lone_api.client.get(f"/v1/batches/{script.batch_id}")).json()
        following.cancel()
    assert answer["limited_by"] is None


async def test_a_route_whose_pace_is_next_to_nothing_ends_no_stream(
    lone_api: Any, script: Script
) -> None:
    await lone_api.append(script.tape.entries)
    found = Told()
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(found.follow(lone_api))
        await until(lambda: found.batches == {})
        await say(lone_api, 'odd"\n', script.batch_id, kind="share", limit=0, share=0.0)
        await until(lambda: bool(found.batches))
        answer = (await lone_api.client.get(f"/v1/batches/{script.batch_id}")).json()
        following.cancel()
    assert "limit: less than 1% of its usual pace" in answer["limited_by"]["message"]
    assert found.batches is not None
    assert found.batches.keys() == {'odd"\n', script.batch_id}
