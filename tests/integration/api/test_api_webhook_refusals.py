"""What is refused of webhooks, to whom, and which addresses are never told."""

import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from millstream.eventlog.buckets import Bucket
from millstream.runtime.tokens import create_token
from millstream.testing.nats import running_log
from millstream.testing.receiver import Receiver
from millstream_api.webhooks.addresses import PrivateAddressError, PublicResolver
from millstream_api.webhooks.sending import Sender
from millstream_api.webhooks.signing import new_secret
from millstream_schemas import subjects
from millstream_schemas.webhooks import WebhookMessage

pytestmark = pytest.mark.anyio


async def add(api: Any, url: str) -> str:
    """Add a webhook; return its path."""
    answer = await api.client.post("/v1/webhooks", json={"url": url})
    assert answer.status_code == 201, answer.text
    return f"/v1/webhooks/{answer.json()['webhook']['id']}"


async def test_one_key_adds_one_webhook(lone_api: Any) -> None:
    api = lone_api
    key = {"Idempotency-Key": "one"}
    body = {"url": "https://example.org/a"}
    first, second = [
        await api.client.post("/v1/webhooks", json=body, headers=key) for _ in range(2)
    ]
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    other = {"url": "https://example.org/b"}
    refused = await api.client.post("/v1/webhooks", json=other, headers=key)
    assert (refused.status_code, refused.json()["type"][-11:]) == (409, "cy_conflict")
    for number in range(19):
        await add(api, f"https://example.org/{number}")
    full = await api.client.post("/v1/webhooks", json=body)
    assert full.status_code == 409
    assert "remove one first" in full.json()["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "url"),
        ({"url": ""}, "url"),
        ({"url": "ftp://example.org"}, "url"),
        ({"url": "https://example.org/" + "x" * 2000}, "url"),
        ({"url": "https://example.org", "events": []}, "events"),
        ({"url": "https://example.org", "events": ["batch.born"]}, "events.0"),
        ({"url": "https://example.org", "secret": "mine"}, "secret"),
        ({"url": "http://127.0.0.1:80/"}, "url"),
    ],
)
async def test_a_wrong_webhook_is_refused_by_name(
    lone_api: Any, body: dict[str, Any], field: str
) -> None:
    answer = await lone_api.client.post("/v1/webhooks", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field
    assert (await lone_api.client.get("/v1/webhooks")).json() == {"webhooks": []}


async def test_what_can_not_be_done_with_a_webhook_is_told(lone_api: Any) -> None:
    client = lone_api.client
    for method, below, body in (
        ("GET", "", None),
        ("PATCH", "", {"is_active": False}),
        ("DELETE", "", None),
        ("GET", "/deliveries", None),
        ("POST", "/test", None),
        ("POST", "/rotate", None),
        ("POST", "/replay", {"after": 0}),
    ):
        answer = await client.request(method, f"/v1/webhooks/hook_no{below}", json=body)
        assert answer.status_code == 404, (method, below, answer.text)
        assert "GET /v1/webhooks lists" in answer.json()["detail"]
    path = await add(lone_api, "https://example.org/")
    beyond = await client.post(f"{path}/replay", json={"after": 10**9})
    assert (beyond.status_code, beyond.json()["errors"][0]["field"]) == (422, "after")
    moved = await client.patch(path, json={"url": "http://10.0.0.1/"})
    assert (moved.status_code, moved.json()["errors"][0]["field"]) == (422, "url")


async def test_a_name_that_leads_inside_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def inside(_: object, host: str, port: int, family: int) -> list[dict[str, Any]]:
        """Answer as a name server would whose owner points a name at this machine."""
        asked.append(host)
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET,
                 "proto": 0, "flags": 0}]  # fmt: skip

    monkeypatch.setattr("millstream_api.webhooks.addresses.ThreadedResolver.resolve", inside)
    message = WebhookMessage(type="ping", timestamp=datetime(2026, 1, 1, tzinfo=UTC))
    async with Receiver() as receiver, Sender(may_be_private=False) as sender:
        port = receiver.url.rpartition(":")[2].partition("/")[0]
        for name in ("hooks.example.org", "2130706433"):  # 127.0.0.1 as one number
            attempt = await sender.send(f"http://{name}:{port}/", "evt_1", message, [new_secret()])
            assert attempt.status is None
        assert (asked, receiver.requests) == (["hooks.example.org"], [])
        with pytest.raises(PrivateAddressError, match=r"leads to 127\.0\.0\.1, an address of a"):
            await PublicResolver().resolve("hooks.example.org", 443)


async def test_admins_alone_may_ask_for_webhooks(tmp_path: Path, make_api: Any) -> None:
    file = tmp_path / "tokens"
    wanted = {"viewer": 403, "operator": 403, "admin": 200}
    tokens = {role: create_token(file, f"the-{role}", role) for role in wanted}  # type: ignore[arg-type]  # roles
    async with (
        running_log(tmp_path) as log,
        make_api(log, projector=False, tokens_file=file) as api,
    ):
        for role, status in wanted.items():
            shown = {"Authorization": f"Bearer {tokens[role]}"}
            answer = await api.client.get("/v1/webhooks", headers=shown)
            assert answer.status_code == status, role
            with_more = await api.client.get("/v1/webhooks?x=1", headers=shown)
            assert with_more.status_code == (400 if role == "admin" else 403), role
            one = await api.client.get("/v1/webhooks/hook_no", headers=shown)
            assert one.status_code == (404 if role == "admin" else 403)
        assert (await api.client.get("/v1/webhooks")).status_code == 401


@pytest.mark.parametrize(
    "host", ["a" * 64 + ".example.org", "a..b", "-", "x.invalid", "[::1]:1", "127.0.0.1:1"]
)
async def test_a_name_that_leads_nowhere_is_told_as_an_attempt(host: str) -> None:
    message = WebhookMessage(type="ping", timestamp=datetime(2026, 1, 1, tzinfo=UTC))
    for may_be_private in (True, False):
        async with Sender(may_be_private=may_be_private) as sender:
            attempt = await sender.send(f"http://{host}/", "evt_1", message, [new_secret()])
        assert (attempt.status, attempt.is_taken) == (None, False)
        assert attempt.error


async def test_webhooks_of_a_newer_version_are_left_as_they_are_and_all_else_goes_on(
    lone_api: Any,
) -> None:
    bucket = Bucket(lone_api.log.event_log.answers, subjects.WEBHOOKS_BUCKET)
    await bucket.put("book", b'{"webhooks": [{"id": "hook_1", "how": "by pigeon"}]}')
    answer = await lone_api.client.post("/v1/webhooks", json={"url": "https://example.org/"})
    assert answer.status_code >= 500
    assert (await lone_api.client.get("/readyz")).status_code == 200
    await lone_api.start()
    entry = await bucket.get("book")
    assert entry is not None
    assert b"by pigeon" in entry.value
