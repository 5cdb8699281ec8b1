"""Every command in every state over HTTP: its answer, what it appends, and the state after it."""

import asyncio
import json
from typing import Any

import pytest

from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.histories import ERROR
from millstream.testing.nats import everything
from millstream.testing.waiting import BOUND_S
from millstream_schemas import subjects

pytestmark = pytest.mark.anyio

Call = tuple[str, str, dict[str, Any] | None]
COMMANDS: dict[str, Call] = {
    "cancel": ("POST", "/stop", None),
    "drain": ("POST", "/stop", {"mode": "drain", "grace_s": 600}),
    "pause": ("POST", "/pause", None),
    "resume": ("POST", "/resume", {"reason": "back"}),
    "priority": ("PATCH", "", {"priority": "high"}),
    "same-priority": ("PATCH", "", {"priority": "normal"}),
    "retry-failed": ("POST", "/retry-failed", None),
    "continue": ("POST", "/continue", {"overrides": {"concurrency": 2}}),
    "clone": ("POST", "/clone", {"overrides": {"target": 3}}),
}
ALLOWED: dict[str, list[str]] = {
    "queued": ["stop", "pause", "priority", "clone"],
    "running": ["stop", "pause", "priority", "clone"],
    "paused": ["stop", "resume", "priority", "clone"],
    "stopping": ["stop", "clone"],
    "draining": ["stop", "clone"],
    "stopped": ["continue", "clone"],
    "completed": ["retry-failed", "continue", "clone"],
    "failed": ["continue", "clone"],
}
STATES = (*ALLOWED, "unknown")
FINAL = ("stopped", "completed", "failed")

STOP, CLOSED, STOPPED = "batch.stop_requested.v1", "slice.closed.v1", "batch.stopped.v1"
STARTED, CHILD = "batch.started.v1", "batch.child_started.v1"
FENCED = [STOP, CLOSED, STOPPED]

Expected = tuple[int, str | None, str | None, list[str]]
"""Status, problem code, the state after (None: as before), the types of the events appended."""

REFUSED: Expected = (409, "invalid_transition", None, [])


def row(command: str, cells: dict[str, Expected]) -> dict[tuple[str, str], Expected]:
    """Return a command's row of the table; where nothing is said it is refused."""
    known = {**dict.fromkeys(ALLOWED, REFUSED), "unknown": (404, "not_found", None, [])}
    return {(command, state): (known | cells)[state] for state in STATES}


SAME: Expected = (200, None, None, [])
CHANGED = "batch.priority_changed.v1"
NOTHING: Expected = (409, "nothing_to_retry", None, [])
NEW_CHILD: Expected = (201, None, None, [CHILD, STARTED])
TABLE: dict[tuple[str, str], Expected] = {
    **row(
        "cancel",
        {
            "queued": (202, None, "stopped", [STOP, STOPPED]),
            "running": (202, None, "stopped", FENCED),
            "paused": (202, None, "stopped", FENCED),
            "stopping": (200, None, "stopped", FENCED[1:]),
            "draining": (202, None, "stopped", FENCED),
            "stopped": SAME,
        },
    ),
    **row(
        "drain",
        {
            **{name: (202, None, "stopping", [STOP]) for name in ("queued", "running", "paused")},
            **dict.fromkeys(("stopping", "draining", "stopped"), SAME),
        },
    ),
    **row(
        "pause",
        {
            "queued": (202, None, "paused", ["batch.paused.v1"]),
            "running": (202, None, "paused", ["batch.paused.v1"]),
            "paused": SAME,
        },
    ),
    **row(
        "resume",
        {
            "queued": SAME,
            "running": SAME,
            "paused": (202, None, "running", ["batch.resumed.v1"]),
        },
    ),
    **row(
        "priority",
        {name: (200, None, None, [CHANGED]) for name in ("queued", "running", "paused")},
    ),
    **row("same-priority", dict.fromkeys(("queued", "running", "paused"), SAME)),
    **row("retry-failed", {"stopped": NOTHING, "failed": NOTHING, "completed": NEW_CHILD}),
    **row("continue", dict.fromkeys(FINAL, NEW_CHILD)),
    **row("clone", dict.fromkeys(ALLOWED, (201, None, None, [STARTED]))),
}


def script_in(name: str, number: int = 1) -> Script:
    """Return a batch of six samples in a state; only a completed one has a failed sample."""
    made = Script(batch_id=f"batch_1767225600_{number:08x}", spec=example_spec(6, slice_size=2))
    if name == "unknown":
        return made
    made.start()
    if name == "completed":
        for index in range(3):
            made.claim(index)
        for slot in range(5):
            made.generate(slot)
        made.fail(5)
        made.complete()
        return made
    if name != "queued":
        made.claim(0)
        made.generate(0)
    _bring_to(made, name)
    return made


def _bring_to(made: Script, name: str) -> None:
    match name:
        case "paused":
            made.pause()
        case "stopping":
            made.request_stop()
        case "draining":
            made.drain(600)
        case "stopped":
            made.stop()
        case "failed":
            made.request_stop(error=ERROR)
            made.close(0)
            made.end_stop()


async def types_after(api: Any, sequence: int) -> list[str]:
    """Return the types of all events of batches after ``sequence``."""
    found = await everything(api.log.event_log)
    return [
        json.loads(item.payload)["type"]
        for item in found
        if item.sequence > sequence and item.subject != subjects.SYSTEM_COMMANDS
    ]


async def state_of(api: Any, batch_id: str, *, ended: bool) -> str:
    """Return the batch's state, once it has ended if that is what is waited for."""
    async with asyncio.timeout(BOUND_S):
        while True:
            batch = (await api.client.get(f"/v1/batches/{batch_id}")).json()["batch"]
            if not ended or batch["finished_at"]:
                return str(batch["state"])
            await asyncio.sleep(0.02)


async def send(api: Any, batch_id: str, command: str, **headers: str) -> Any:
    """Send a command to a batch."""
    method, path, body = COMMANDS[command]
    url = f"/v1/batches/{batch_id}{path}"
    return await api.client.request(method, url, json=body, headers=headers)


@pytest.mark.parametrize("command", COMMANDS)
async def test_every_command_in_every_state(lone_api: Any, command: str) -> None:
    for number, name in enumerate(STATES, start=1):
        status, code, after, appended = TABLE[command, name]
        script = script_in(name, number)
        batch_id, here = script.batch_id, (command, name)
        if script.tape.entries:
            await lone_api.append(script.tape.entries)
        before = (await lone_api.log.event_log.head()).last
        answer = await send(lone_api, batch_id, command)
        body = answer.json()
        assert answer.status_code == status, (here, answer.text)
        if code is not None:
            assert body["type"] == f"urn:millstream:problem:{code}", here
            assert body["batch_id"] == batch_id
            assert body.get("state") == (None if name == "unknown" else script.state.state), here
            assert body.get("allowed") == ALLOWED.get(name), here
        elif status != 201:
            assert body["batch"]["id"] == batch_id
            assert answer.headers["etag"] == f'"{body["batch"]["version"]}"'
        if name != "unknown":
            wanted = after or script.state.state
            ends = wanted == "stopped" and name not in FINAL
            assert await state_of(lone_api, batch_id, ended=ends) == wanted, here
        assert await types_after(lone_api, before) == appended, here


def test_the_table_has_every_pair() -> None:
    assert TABLE.keys() == {(command, state) for command in COMMANDS for state in STATES}


@pytest.mark.parametrize("name", ["running", "stopped"])
async def test_a_stale_version_is_refused_by_every_command(lone_api: Any, name: str) -> None:
    script = script_in(name)
    before = await lone_api.append(script.tape.entries)
    version = script.state.control_sequence
    for command in COMMANDS:
        for stale in (f'"{version - 1}"', f'W/"{version + 1}"', "0"):
            refused = await send(lone_api, script.batch_id, command, **{"If-Match": stale})
            assert refused.status_code == 412, (command, refused.text)
            assert refused.json()["type"] == "urn:millstream:problem:stale"
            assert refused.json()["allowed"] == ALLOWED[name]
            assert refused.json()["state"] == name
        malformed = await send(lone_api, script.batch_id, command, **{"If-Match": "x"})
        assert (malformed.status_code, malformed.json()["errors"][0]["field"]) == (400, "If-Match")
    assert await types_after(lone_api, before) == []
    clone = await send(lone_api, script.batch_id, "clone", **{"If-Match": f'"{version}"'})
    assert clone.status_code == 201
    unknown = await send(lone_api, "batch_1111111111_00000000", "pause", **{"If-Match": "5"})
    assert unknown.status_code == 404


async def test_a_command_tells_its_actor_its_reason_and_its_id(lone_api: Any) -> None:
    batch_id = await lone_api.start()
    for number, (command, headers) in enumerate(
        [
            ("pause", {"X-Reason": "Mittag bei Jürgen".encode()}),
            ("resume", {"X-Reason": "the body's comes first"}),
            ("priority", {"X-Reason": "urgent"}),
            ("clone", {"X-Reason": "once more"}),
            ("cancel", {"X-Reason": "enough"}),
        ]
    ):
        method, path, body = COMMANDS[command]
        url = f"/v1/batches/{batch_id}{path}"
        sent = await lone_api.client.request(method, url, json=body, headers=headers)
        assert sent.status_code in {200, 201, 202}, (number, sent.text)
    stored = [json.loads(item.payload) for item in await everything(lone_api.log.event_log)]
    reasons = [event.get("reason") for event in stored if event["type"] != STOPPED][1:6]
    assert reasons == ["Mittag bei Jürgen", "back", "urgent", "once more", "enough"]
    assert {(event["actor"]["kind"], event["actor"]["id"]) for event in stored} == {
        ("user", "local")
    }
    assert len({event["command_id"] for event in stored[:6]}) == 6
    for header, value in (("X-Reason", "x" * 501), ("Idempotency-Key", "y" * 256)):
        for command in COMMANDS:
            refused = await send(lone_api, batch_id, command, **{header: value})
            assert refused.status_code == 400, command
            assert refused.json()["errors"][0]["field"] == header


@pytest.mark.parametrize("body", [{"grace_s": 5}, {"mode": "cancel", "grace_s": 5}])
async def test_a_cancelling_stop_with_a_grace_is_refused_and_stops_nothing(
    lone_api: Any, body: dict[str, Any]
) -> None:
    batch_id = await lone_api.start()
    refused = await lone_api.client.post(f"/v1/batches/{batch_id}/stop", json=body)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "grace_s")
    assert 'add "mode": "drain", or leave grace_s out' in refused.json()["detail"]
    assert await state_of(lone_api, batch_id, ended=False) == "queued"
