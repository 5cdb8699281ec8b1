"""The streams over real HTTP: exact under load, reconnects and lost live messages."""

import asyncio
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from millstream.cli.sse import Parser
from millstream.domain.batch import apply
from millstream.domain.batch_state import BatchState
from millstream.domain.view import batch_view
from millstream.eventlog.stored import decode
from millstream.testing.events import Script
from millstream.testing.followers import NAMED, SEED, StateFollower
from millstream.testing.nats import running_log
from millstream.testing.reconnecting import played
from millstream.testing.tape import Entry
from millstream.testing.waiting import until
from millstream_api.seed import seed_state
from millstream_schemas import subjects

pytestmark = pytest.mark.anyio


async def hold_the_fold(api: Any, scripts: list[Script], watchers: list[StateFollower]) -> None:
    """Append all histories at once under the watchers' eyes; each then holds the log's fold."""
    async with asyncio.TaskGroup() as tasks:
        following = [tasks.create_task(watcher.follow(api.client)) for watcher in watchers]
        await until(lambda: all(watcher.connects for watcher in watchers))
        appending = [
            tasks.create_task(append_slowly(api, script.tape.entries)) for script in scripts
        ]
        for task in appending:
            await task
        named, worded = await final_maps(api, scripts)
        for watcher in watchers:
            wanted = worded if watcher.path == SEED else named
            if "batch_id=" in watcher.path:
                wanted = {key: view for key, view in wanted.items() if key in watcher.path}
            await settled(watcher, wanted)
        for task in following:
            task.cancel()


async def settled(watcher: StateFollower, wanted: dict[str, Any]) -> None:
    """Wait until the watcher's map is the wanted one."""
    try:
        await until(lambda: watcher.batches == wanted)
    except AssertionError:
        assert watcher.batches == wanted  # says in what they differ
        raise


async def append_slowly(api: Any, entries: list[Entry]) -> None:
    for entry in entries:
        await api.append([entry], waits=False)
        await asyncio.sleep(0)


async def final_maps(api: Any, scripts: list[Script]) -> tuple[dict[str, Any], dict[str, Any]]:
    named, worded = {}, {}
    for script in scripts:
        state = BatchState(script.batch_id)
        async for page in api.log.event_log.history(subjects.all_of_batch(script.batch_id)):
            for stored in page:
                recorded = decode(stored)
                assert recorded is not None
                state = apply(state, recorded)
        assert state.is_final
        assert state.anomalies == 0
        view = batch_view(state)
        named[script.batch_id] = json.loads(view.model_dump_json())
        worded[script.batch_id] = seed_state(view)
    return named, worded


def some_watchers(api: Any, scripts: list[Script], seed: int) -> list[StateFollower]:
    rng = Random(seed)
    two = "&".join(f"batch_id={script.batch_id}" for script in scripts[:2])
    paths = [NAMED] * 5 + [SEED] * 3 + [f"{NAMED}?{two}"] * 2
    return [StateFollower([api.url], path, Random(rng.random())) for path in paths]


async def test_clients_cut_anywhere_lose_nothing_and_double_nothing(lone_api: Any) -> None:
    rng = Random(7)
    scripts = [played(number, rng) for number in range(6)]
    watchers = some_watchers(lone_api, scripts, 7)
    await hold_the_fold(lone_api, scripts, watchers)
    for watcher in watchers:
        assert watcher.updates == sorted(set(watcher.updates))
        assert watcher.snapshots == 1  # a returning client is never started afresh
    assert sum(watcher.connects for watcher in watchers) > 3 * len(watchers)


async def test_lost_live_messages_are_read_from_the_stream(
    tmp_path: Path, make_api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = Random(3)
    lost = 0
    subscribe = NatsClient.subscribe

    async def leaky(self: NatsClient, subject: str, *args: Any, **options: Any) -> Any:
        take = options.get("cb")
        if subject == subjects.LIVE_EVENTS and take is not None:

            async def drop_some(message: Msg) -> None:
                nonlocal lost
                if rng.random() < 0.3:
                    lost += 1
                    return
                await take(message)

            options["cb"] = drop_some
        return await subscribe(self, subject, *args, **options)

    monkeypatch.setattr(NatsClient, "subscribe", leaky)
    async with running_log(tmp_path) as log, make_api(log, projector=False) as api:
        scripts = [played(number, Random(5)) for number in range(3)]
        watchers = some_watchers(api, scripts, 3)
        await hold_the_fold(api, scripts, watchers)
    assert lost > 20
    for watcher in watchers:
        assert watcher.updates == sorted(set(watcher.updates))


async def test_another_replica_resumes_a_client_and_a_restarted_one_starts_it_afresh(
    tmp_path: Path, make_api: Any
) -> None:
    script = played(2, Random(1))
    half = len(script.tape.entries) // 2
    async with running_log(tmp_path) as log:
        async with (
            make_api(log, projector=False) as first,
            make_api(log, projector=False) as second,
        ):
            await first.append(script.tape.entries[:half])
            start = await frames(first, NAMED, 1)
            sequence = await first.append(script.tape.entries[half:])
            await second.folded(sequence)
            resumed = await frames(second, NAMED, 1, last_id=start[-1][1])
            assert [name for name, _, _ in resumed] == ["batch_update", "limited"]
            assert resumed[-1][1].startswith(f"{sequence}-")
            assert json.loads(resumed[0][2])["batch"]["state"] == "completed"
            idle = await frames(second, NAMED, 1, last_id=resumed[-1][1])
            here = resumed[-1][1]
            assert [one[:2] for one in idle] == [("heartbeat", here), ("limited", here)]
        async with make_api(log, projector=False) as third:
            again = await frames(third, NAMED, 1, last_id=start[-1][1])
            assert [name for name, _, _ in again] == ["all_batches", "limited"]
            assert json.loads(again[0][2])["batches"] == {}


async def frames(api: Any, path: str, count: int, last_id: str = "") -> list[tuple[str, str, str]]:
    """Return the first ``count`` events of a new connection: (name, id, data)."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    parser = Parser(last_id)
    found: list[tuple[str, str, str]] = []
    async with api.client.stream("GET", path, headers=headers, timeout=20) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-store, no-transform"
        async for chunk in answer.aiter_raw():
            found.extend((event.name, event.last_id, event.data) for event in parser.feed(chunk))
            if len(found) >= count:
                assert parser.retry_ms is not None
                return found
    raise AssertionError(f"the stream ended after {found}")


@pytest.mark.parametrize("last_id", ["-5", "x", "99-ffffffff", "999999999-{epoch}", "0-zz", "ü"])
async def test_an_id_that_is_no_place_of_this_stream_starts_the_client_afresh(
    lone_api: Any, last_id: str
) -> None:
    epoch = (await lone_api.log.event_log.head()).epoch
    place = last_id.format(epoch=epoch)
    path = f"{NAMED}?last_event_id={place}"
    found = await frames(lone_api, path, 1)
    assert found[0][0] == "all_batches"


async def test_a_bare_sequence_is_a_place_to_go_on_from(lone_api: Any) -> None:
    script = played(2, Random(1))
    sequence = await lone_api.append(script.tape.entries)
    found = await frames(lone_api, f"{NAMED}?last_event_id=1", 1)
    assert (found[0][0], found[0][1].partition("-")[0]) == ("batch_update", str(sequence))


async def test_a_filter_that_is_no_batch_id_is_refused_in_words(lone_api: Any) -> None:
    answer = await lone_api.client.get(f"{NAMED}?batch_id=*")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "batch_id"
    answer = await lone_api.client.get(f"{SEED}?batch_id=*")
    assert answer.status_code == 400
    assert answer.json()["success"] is False
    head = await lone_api.client.head(NAMED)
    assert head.status_code == 200


async def test_clients_stay_and_lose_nothing_while_the_log_is_away(lone_api: Any) -> None:
    script = played(2, Random(1))
    half = len(script.tape.entries) // 2
    await lone_api.append(script.tape.entries[:half])
    watcher = StateFollower([lone_api.url], NAMED, Random(1))
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(watcher.once(lone_api.client, lone_api.url, 10**9))
        await until(lambda: script.batch_id in watcher.batches)
        await lone_api.log.restart()
        await lone_api.append(script.tape.entries[half:])
        await until(lambda: watcher.batches[script.batch_id]["state"] == "completed")
        following.cancel()
    assert (watcher.connects, watcher.snapshots) == (1, 1)
    assert watcher.updates == sorted(set(watcher.updates))
