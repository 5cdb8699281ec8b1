"""Refused commands: each is in the log with who, what, from where and why; a loop is counted."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from millstream.eventlog.stored import Decoder
from millstream.runtime.tokens import create_token
from millstream.testing.events import Script
from millstream.testing.nats import everything, running_log
from millstream.testing.waiting import BOUND_S
from millstream_api import refusals
from millstream_schemas import subjects

pytestmark = pytest.mark.anyio


async def told(api: Any, count: int, **query: Any) -> list[dict[str, Any]]:
    """Return the refusals once there are ``count``: they are stored after the answer."""
    async with asyncio.timeout(BOUND_S):
        while True:
            page = (await api.client.get("/v1/audit/refusals", params=query)).json()
            if len(page["refusals"]) >= count:
                return [refusal["event"] for refusal in page["refusals"]]
            await asyncio.sleep(0.02)


async def test_a_refused_command_is_told_with_who_from_where_and_why(api: Any) -> None:
    script = Script().run()
    await api.append(script.tape.entries)
    answer = await api.client.post(
        f"/v1/batches/{script.batch_id}/pause", headers={"X-Reason": "lunch"}
    )
    assert answer.status_code == 409
    (event,) = await told(api, 1, batch_id=script.batch_id)
    assert event["actor"] == {"kind": "user", "id": "local", "address": "127.0.0.1"}
    assert (event["command"], event["status"], event["problem"], event["reason"]) == (
        "pause",
        409,
        "invalid_transition",
        "lunch",
    )
    assert (event["batch_id"], event["detail"]) == (script.batch_id, answer.json()["detail"])
    assert event["command_id"]


async def test_each_kind_of_command_is_told_and_what_was_never_understood_is_not(api: Any) -> None:
    script = Script().run()
    last = await api.append(script.tape.entries)
    path, other = f"/v1/batches/{script.batch_id}", "/v1/batches/batch_1700000000_00000bad"
    client = api.client
    asked = [
        (await client.post(f"{path}/stop", json={})).status_code,
        (await client.post(f"{path}/resume", headers={"If-Match": "1"})).status_code,
        (await client.patch(path, json={"priority": "high"})).status_code,
        (await client.post(f"{path}/continue")).status_code,
        (await client.post(f"{path}/retry-failed")).status_code,
        (await client.post(f"{other}/clone")).status_code,
    ]
    assert asked == [409, 412, 409, 409, 409, 404]
    assert (await client.post("/v1/batches", json={"target": 0})).status_code == 422
    assert (await client.post("/v1/batches", content=b"{")).status_code == 400
    unknown = {"target": 5, "model": "no/such"}
    assert (await client.post("/v1/batches", json=unknown)).status_code == 422
    keyed = {"headers": {"Idempotency-Key": "a-key-used-twice"}}
    start = {"target": 5, "model": "simulated/fast"}
    assert (await client.post("/v1/batches", json=start, **keyed)).status_code == 201
    last += 1
    again = await client.post("/v1/batches", json=start | {"target": 6}, **keyed)
    assert again.status_code == 409
    bulk = {"action": "pause", "ids": [script.batch_id]}
    assert (await client.post("/v1/batches:bulk", json=bulk)).json()["results"][0]["status"] == 409
    events = await told(api, 8)
    assert {(event["command"], event["status"]) for event in events} == {
        ("start", 409),
        ("stop", 409),
        ("resume", 412),
        ("priority", 409),
        ("continue", 409),
        ("retry_failed", 409),
        ("clone", 404),
        ("pause", 409),
    }
    read = Decoder()
    stored = await everything(api.log.event_log)
    assert len(stored) == last + 8
    refused = [item for item in stored if item.subject == subjects.SYSTEM_COMMANDS]
    assert [read(item) for item in refused] == [None] * 8
    assert (read.system, read.unknown, read.malformed) == (8, 0, 0)
    # Every reader goes on behind them.
    await api.folded(last + 8)
    view = await client.get(path)
    assert view.json()["batch"]["state"] == "completed"
    digests = await client.get("/v1/audit/digests", params={"min_sequence": last + 8})
    assert digests.json()["events"] == last + 8


async def test_a_client_in_a_loop_fills_no_log(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "MOST", 5)
    for _ in range(30):
        await api.client.post("/v1/batches/batch_1700000000_00000bad/stop")
    for number in range(30):
        await api.client.post(f"/v1/batches/batch_1700000000_{number:08x}/stop")
    await told(api, 5)
    monkeypatch.setattr(refusals, "SAME_S", 0.0)
    monkeypatch.setattr(refusals, "SPAN_S", 0.0)
    await api.client.post("/v1/batches/batch_1700000000_00000bad/stop")
    events = await told(api, 6)
    assert len(events) == 6
    assert (events[-1]["repeated"], events[-1]["unlisted"]) == (29, 26)
    page = (await api.client.get("/v1/audit/refusals", params={"limit": 4})).json()
    rest = await api.client.get("/v1/audit/refusals", params={"cursor": page["next_cursor"]})
    assert (len(page["refusals"]), len(rest.json()["refusals"])) == (4, 2)


async def test_an_accepted_command_names_its_address_too(lone_api: Any) -> None:
    batch_id = await lone_api.start(model="simulated/fast")
    (stored,) = await everything(lone_api.log.event_log)
    event = Decoder()(stored)
    assert event is not None
    assert event.event.batch_id == batch_id
    assert event.event.actor.address == "127.0.0.1"
    assert event.event.command_id


async def test_a_command_that_a_role_does_not_allow_is_told_too(
    tmp_path: Path, make_api: Any
) -> None:
    viewer = create_token(tmp_path / "tokens", "eve", "viewer")
    admin = create_token(tmp_path / "tokens", "ada", "admin")
    batch, hook = "/v1/batches/batch_1700000000_00000001", "/v1/webhooks/hook_1"
    hook_words = ("replay", "rotate", "test")
    asked = [
        ("POST", "/v1/batches", "start", None),
        ("POST", "/v1/batches:bulk", "bulk", None),
        ("POST", "/api/generate/batch/stop", "stop", None),
        ("PATCH", batch, "priority", batch.rpartition("/")[2]),
        ("POST", f"{batch}/stop", "stop", batch.rpartition("/")[2]),
        ("POST", f"{batch}/retry-failed", "retry_failed", batch.rpartition("/")[2]),
        ("POST", "/v1/webhooks", "webhook_add", None),
        ("PATCH", hook, "webhook_change", "hook_1"),
        ("DELETE", hook, "webhook_remove", "hook_1"),
        *(("POST", f"{hook}/{word}", f"webhook_{word}", "hook_1") for word in hook_words),
    ]
    words = ("explode", "start", "bulk", "priority", "retry_failed")  # no paths of commands
    others = [
        ("DELETE", batch),
        ("GET", "/v1/webhooks"),
        ("GET", f"{hook}/deliveries"),
        ("POST", f"{hook}/explode"),
        *(("POST", f"{batch}/{w}") for w in words),
    ]
    async with (
        running_log(tmp_path) as log,
        make_api(log, projector=False, tokens_file=tmp_path / "tokens") as api,
    ):
        shown = {"Authorization": f"Bearer {viewer}"}
        for method, path in [*others, *((method, path) for method, path, _, _ in asked)]:
            answer = await api.client.request(method, path, headers=shown, json={"target": 1})
            assert answer.status_code == 403, path
        await api.client.post("/v1/batches", headers={"Authorization": "Bearer mill_0"})
        api.client.headers["Authorization"] = f"Bearer {admin}"
        events = await told(api, len(asked))
    assert len(events) == len(asked)  # neither what is no command nor who is nobody
    found = {(one["command"], one.get("batch_id") or one.get("webhook_id")) for one in events}
    assert found == {(command, named) for _, _, command, named in asked}
    for event in events:
        assert event["actor"] == {"kind": "key", "id": "eve", "address": "127.0.0.1"}
        assert (event["status"], event["problem"]) == (403, "role_too_low")
        role = "admin" if event["command"].startswith("webhook_") else "operator"
        assert event["detail"] == f"the token eve is a viewer's; this takes the role {role}"
