"""The streams, consumers and buckets are as the design says, however often they are made."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from millstream.errors import LogFullError
from millstream.eventlog.log import EventLog
from millstream.eventlog.topology import ensure_topology, free_store_bytes
from millstream.testing.nats import RunningLog, claim, everything, fill_stream, running_log
from millstream_schemas import subjects

pytestmark = pytest.mark.anyio


async def call(log: EventLog, name: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
    answer = await log.answers.ask(f"$JS.API.{name}", json.dumps(request or {}).encode())
    document: dict[str, Any] = json.loads(answer.data)
    return document


async def config(log: EventLog, stream: str) -> dict[str, Any]:
    found: dict[str, Any] = (await call(log, f"STREAM.INFO.{stream}"))["config"]
    return found


async def test_the_event_stream_only_grows(running: RunningLog) -> None:
    log = running.event_log
    found = await config(log, subjects.EVENTS)
    expected = {
        "subjects": [subjects.ALL_EVENTS],
        "storage": "file",
        "retention": "limits",
        "max_age": 0,
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "discard": "new",
        "deny_purge": True,
        "allow_direct": True,
        "allow_atomic": True,
        "republish": {"src": subjects.ALL_EVENTS, "dest": subjects.LIVE_EVENTS},
        "num_replicas": 1,
    }
    assert {name: found[name] for name in expected} == expected
    assert 0 < found["max_bytes"] <= free_store_bytes(running.settings.data_dir, 2**30)
    await fill_stream(log, 5)
    assert "error" in await call(log, f"STREAM.PURGE.{subjects.EVENTS}")
    assert len(await everything(log)) == 5


async def test_the_work_stream_holds_one_message_per_slice(running: RunningLog) -> None:
    found = await config(running.event_log, subjects.WORK)
    expected = {
        "retention": "workqueue",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "discard_new_per_subject": True,
        "storage": "file",
    }
    assert {name: found[name] for name in expected} == expected
    for priority in subjects.PRIORITIES:
        name = subjects.work_consumer("default", priority)
        consumer = (await call(running.event_log, f"CONSUMER.INFO.{subjects.WORK}.{name}"))[
            "config"
        ]
        assert consumer["filter_subject"] == subjects.work_filter("default", priority)
        assert (consumer["ack_policy"], consumer["max_deliver"]) == ("explicit", -1)
        assert consumer["ack_wait"] == 10_000_000_000
        assert consumer["max_ack_pending"] == 100_000


async def test_buckets_forget_what_they_should(running: RunningLog) -> None:
    ages = {
        bucket: (await config(running.event_log, f"KV_{bucket}"))["max_age"] // 1_000_000_000
        for bucket in (
            subjects.NODES_BUCKET,
            subjects.LIMITS_BUCKET,
            subjects.IDEMPOTENCY_BUCKET,
            subjects.WEBHOOKS_BUCKET,
        )
    }
    assert ages == {
        subjects.NODES_BUCKET: 10,
        subjects.LIMITS_BUCKET: 0,
        subjects.IDEMPOTENCY_BUCKET: 86_400,
        subjects.WEBHOOKS_BUCKET: 0,
    }
    assert (await config(running.event_log, subjects.AUDIT))["deny_purge"]


async def test_making_it_again_and_by_several_at_once_changes_nothing(running: RunningLog) -> None:
    log = running.event_log
    await fill_stream(log, 10)
    before, head = await call(log, "STREAM.LIST"), await log.head()
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(ensure_topology(running.connection, running.settings))
    after = await call(log, "STREAM.LIST")
    assert len(after["streams"]) == 7
    for old, new in zip(before["streams"], after["streams"], strict=True):
        old["config"].pop("max_bytes")
        new["config"].pop("max_bytes")
        assert old["config"] == new["config"]
    assert await log.head() == head


async def test_what_is_missing_is_made_and_what_differs_is_brought_up_to_date(
    running: RunningLog,
) -> None:
    log = running.event_log
    wanted = await config(log, subjects.EVENTS)
    other = {**wanted, "allow_direct": False}
    other.pop("republish")
    await call(log, f"STREAM.UPDATE.{subjects.EVENTS}", other)
    await call(log, f"STREAM.DELETE.{subjects.WORK}")
    await call(log, f"STREAM.DELETE.KV_{subjects.NODES_BUCKET}")
    settings = running.settings.model_copy(update={"lease_s": 3.5, "pool": "gpu"})
    await ensure_topology(running.connection, settings)
    found = await config(log, subjects.EVENTS)
    assert (found["allow_direct"], found["republish"]) == (True, wanted["republish"])
    names = (await call(log, f"CONSUMER.NAMES.{subjects.WORK}"))["consumers"]
    assert sorted(names) == ["work-gpu-high", "work-gpu-low", "work-gpu-normal"]
    await ensure_topology(running.connection, settings.model_copy(update={"lease_s": 7}))
    consumer = await call(log, f"CONSUMER.INFO.{subjects.WORK}.work-gpu-high")
    assert consumer["config"]["ack_wait"] == 7_000_000_000


async def test_a_full_store_takes_more_once_the_setting_is_raised(tmp_path: Path) -> None:
    async with running_log(tmp_path, max_bytes=2**20) as running:
        log = running.event_log
        assert (await config(log, subjects.EVENTS))["max_bytes"] == 2**20
        event = claim(0, padding=1_100_000)
        with pytest.raises(LogFullError):
            await log.append(event, expected=0)
        larger = running.settings.model_copy(update={"max_bytes": 2**22})
        await ensure_topology(running.connection, larger)
        assert await log.append(event, expected=0) == 1
