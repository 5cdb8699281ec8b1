"""Idempotency keys of commands that change a batch: a repeat changes nothing anew."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from millstream.domain.decide import Stamp
from millstream.eventlog.aggregate import execute
from millstream.eventlog.stop import run_stop_fence
from millstream.runtime.clock import new_id, utc_now
from millstream_schemas import subjects
from millstream_schemas.commands import PauseBatch, ResumeBatch, StopBatch
from millstream_schemas.envelope import Actor

pytestmark = pytest.mark.anyio

KEY = {"Idempotency-Key": "the-key"}
PAUSED, RESUMED = "batch.paused.v1", "batch.resumed.v1"
CHANGED, STOP = "batch.priority_changed.v1", "batch.stop_requested.v1"

Call = tuple[str, str, dict[str, Any]]
PAUSE: Call = ("POST", "/pause", {})
RESUME: Call = ("POST", "/resume", {})
HIGH: Call = ("PATCH", "", {"priority": "high"})
LOW: Call = ("PATCH", "", {"priority": "low"})
CANCEL: Call = ("POST", "/stop", {})
DRAIN: Call = ("POST", "/stop", {"mode": "drain", "grace_s": 60})


async def send(
    api: Any, batch_id: str, call: Call, headers: dict[str, str] = KEY
) -> httpx.Response:
    """Send a command to a batch, under a key unless told otherwise."""
    method, path, body = call
    client: httpx.AsyncClient = api.client
    return await client.request(method, f"/v1/batches/{batch_id}{path}", json=body, headers=headers)


async def commanded(api: Any, batch_id: str) -> list[str]:
    """Return the types of the batch's control events after its start, but for its end."""
    pages = api.log.event_log.history(subjects.control(batch_id))
    types = [json.loads(stored.payload)["type"] async for page in pages for stored in page]
    return [kind for kind in types[1:] if kind != "batch.stopped.v1"]


@pytest.mark.parametrize(
    ("before", "call", "between", "events"),
    [
        ([], PAUSE, RESUME, [PAUSED, RESUMED]),
        ([PAUSE], RESUME, PAUSE, [PAUSED, RESUMED, PAUSED]),
        ([], HIGH, LOW, [CHANGED, CHANGED]),
        ([PAUSE], PAUSE, RESUME, [PAUSED, RESUMED]),  # it found its wish fulfilled
        ([], RESUME, PAUSE, [PAUSED]),
        ([HIGH], HIGH, LOW, [CHANGED, CHANGED]),
    ],
)
async def test_a_repeat_leaves_alone_what_others_did_since(
    lone_api: Any, before: list[Call], call: Call, between: Call, events: list[str]
) -> None:
    batch_id = await lone_api.start()
    for earlier in before:
        await send(lone_api, batch_id, earlier, {})
    first = await send(lone_api, batch_id, call)
    assert first.is_success
    stays = (await send(lone_api, batch_id, between, {})).json()["batch"]
    again = await send(lone_api, batch_id, call)
    assert again.status_code == 200
    assert again.json()["batch"] == stays
    assert await commanded(lone_api, batch_id) == events
    # Under another key it is another command.
    assert (await send(lone_api, batch_id, call, {"Idempotency-Key": "new"})).is_success
    assert len(await commanded(lone_api, batch_id)) == len(events) + 1


async def test_a_repeat_tells_the_first_ones_sequence_and_needs_no_version(lone_api: Any) -> None:
    batch_id = await lone_api.start()
    seen = (await lone_api.client.get(f"/v1/batches/{batch_id}")).headers["ETag"]
    first = await send(lone_api, batch_id, PAUSE, {**KEY, "If-Match": seen})
    again = await send(lone_api, batch_id, PAUSE, {**KEY, "If-Match": seen})
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json() == again.json()
    assert (await send(lone_api, batch_id, RESUME, {"If-Match": seen})).status_code == 412


@pytest.mark.parametrize(
    ("call", "other"),
    [
        (PAUSE, ("POST", "/pause", {"reason": "lunch"})),
        (HIGH, LOW),
        (DRAIN, CANCEL),
        (DRAIN, ("POST", "/stop", {"mode": "drain", "grace_s": 61})),
        (RESUME, ("POST", "/resume", {"reason": "lunch"})),  # nothing was there to resume
    ],
)
async def test_a_key_takes_no_other_body(lone_api: Any, call: Call, other: Call) -> None:
    batch_id = await lone_api.start()
    assert (await send(lone_api, batch_id, call)).is_success
    before = await commanded(lone_api, batch_id)
    refused = await send(lone_api, batch_id, other)
    assert (refused.status_code, refused.json()["type"]) == (
        409,
        "urn:millstream:problem:idempotency_conflict",
    )
    assert await commanded(lone_api, batch_id) == before


async def test_one_key_on_two_routes_and_two_batches_is_four_commands(lone_api: Any) -> None:
    batches = [await lone_api.start(), await lone_api.start()]
    for call in (PAUSE, RESUME):
        for batch_id in batches:
            assert (await send(lone_api, batch_id, call)).status_code == 202


async def test_of_requests_with_one_key_at_once_one_changes_the_batch(lone_api: Any) -> None:
    batch_id = await lone_api.start()
    sent = await asyncio.gather(*(send(lone_api, batch_id, PAUSE) for _ in range(8)))
    assert sorted(answer.status_code for answer in sent) == [200] * 7 + [202]
    assert len({answer.json()["sequence"] for answer in sent}) == 1
    assert await commanded(lone_api, batch_id) == [PAUSED]


async def stamp_of(api: Any, batch_id: str, kind: str) -> Stamp:
    """Return a stamp of the command that led to the batch's event of this type."""
    pages = api.log.event_log.history(subjects.control(batch_id))
    events = [json.loads(stored.payload) async for page in pages for stored in page]
    command_id = next(event["command_id"] for event in events if event["type"] == kind)
    actor = Actor(kind="user", id="somebody")
    return Stamp(new_id=new_id, time=utc_now(), actor=actor, source="test", command_id=command_id)


async def test_a_repeated_stop_is_not_mistaken_for_the_end_that_it_brought_about(
    lone_api: Any,
) -> None:
    """The end carries the id of the command behind it, but is not what that asked for."""
    batch_id, twin = await lone_api.start(), await lone_api.start()
    await send(lone_api, batch_id, DRAIN)
    await send(lone_api, twin, DRAIN, {})
    stamp = await stamp_of(lone_api, batch_id, STOP)
    for one in (batch_id, twin):
        await run_stop_fence(lone_api.log.event_log, one, lambda: stamp)
    for one in (batch_id, twin):
        made = await execute(
            lone_api.log.event_log, one, StopBatch(mode="drain", grace_s=60), lambda: stamp
        )
        assert (made.earlier is not None) is (one == batch_id)
        assert made.refusal is None
        assert made.state.state == "stopped"


async def test_a_key_is_free_again_after_a_day(lone_api: Any) -> None:
    batch_id, log = await lone_api.start(), lone_api.log.event_log
    assert (await send(lone_api, batch_id, PAUSE)).status_code == 202
    stamp = await stamp_of(lone_api, batch_id, PAUSED)
    await execute(log, batch_id, ResumeBatch(), lambda: replace(stamp, command_id=None))
    for hours, is_repeat in ((23, True), (25, False)):
        later = replace(stamp, time=utc_now() + timedelta(hours=hours))
        made = await execute(log, batch_id, PauseBatch(), lambda later=later: later)
        assert (made.earlier is not None, made.sequence is None) == (is_repeat, is_repeat)


async def test_a_stop_needs_no_bucket_for_its_key(lone_api: Any) -> None:
    batch_id = await lone_api.start()
    answers = lone_api.log.event_log.answers
    gone = f"$JS.API.STREAM.DELETE.KV_{subjects.IDEMPOTENCY_BUCKET}"
    await answers.ask(gone, b"", timeout_s=10)
    assert (await send(lone_api, batch_id, PAUSE)).status_code == 503
    assert [(await send(lone_api, batch_id, CANCEL)).status_code for _ in range(2)] == [202, 200]
    assert await commanded(lone_api, batch_id) == [STOP]


async def test_a_repeat_for_many_leaves_alone_what_others_did_since(lone_api: Any) -> None:
    batches = [await lone_api.start(), await lone_api.start()]

    async def pause_all() -> Any:
        body = {"action": "pause", "ids": batches}
        return (await lone_api.client.post("/v1/batches:bulk", json=body, headers=KEY)).json()

    first = await pause_all()
    await send(lone_api, batches[0], RESUME, {})
    again = await pause_all()
    assert again["command_id"] == first["command_id"]
    assert [(one["changed"], one["state"]) for one in again["results"]] == [
        (False, "queued"),
        (False, "paused"),
    ]
