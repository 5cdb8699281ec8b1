"""Webhooks over real connections: told in order, at least once, signed, and nobody inside."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook as ForeignReceiver

from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import RunningLog, running_log
from millstream.testing.receiver import Receiver
from millstream.testing.service_process import ApiProcess
from millstream.testing.tape import Tape
from millstream.testing.waiting import until
from millstream_api.webhooks.messages import Messages
from millstream_schemas import subjects
from millstream_schemas.errors import ErrorInfo
from millstream_schemas.notes import StuckFinding
from millstream_schemas.webhooks import WEBHOOK_EVENTS

pytestmark = pytest.mark.anyio

FINDING = StuckFinding(
    rule="no_worker", since="2026-01-01T00:00:00Z", idle_s=40, threshold_s=30, cause="none lives"
)
TURNS = [
    "batch.stuck",
    "batch.unstuck",
    "batch.budget_warned",
    "batch.completed",
    "batch.stopped",
    "batch.failed",
]


def batch(tape: Tape, number: int) -> Script:
    spec = example_spec(2, slice_size=2)
    script = Script(tape, batch_id=f"batch_1767225600_{number:08x}", spec=spec)
    script.start()
    return script


def history() -> Tape:
    """One batch that is stuck for a while and completes, one that is stopped, one that fails."""
    tape = Tape()
    first = batch(tape, 1)
    first.detect_stuck(FINDING)
    first.clear_stuck("no_worker")
    first.warn_budget()
    first.run()
    second = batch(tape, 2)
    second.stop("enough")
    third = batch(tape, 3)
    third.request_stop("key refused", ErrorInfo(category="auth", message="key refused"))
    third.end_stop()
    return tape


@contextlib.asynccontextmanager
async def served(tmp_path: Path, make_api: Any, **changed: Any) -> AsyncIterator[Any]:
    changed = {"webhook_private": True, **changed}
    async with running_log(tmp_path) as log, make_api(log, projector=False, **changed) as api:
        yield api


async def add(api: Any, url: str, **fields: Any) -> tuple[str, str]:
    """Add a webhook; return its path and its secret."""
    answer = await api.client.post("/v1/webhooks", json={"url": url, **fields})
    assert answer.status_code == 201, answer.text
    return f"/v1/webhooks/{answer.json()['webhook']['id']}", answer.json()["secret"]


async def deliveries(api: Any, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.client.get(f"{path}/deliveries")).json()["deliveries"]
    return found


async def test_each_turn_is_told_once_in_order_and_signed(tmp_path: Path, make_api: Any) -> None:
    async with Receiver() as receiver, served(tmp_path, make_api) as api:
        path, secret = await add(api, receiver.url)
        await api.append(history().entries)
        await until(lambda: len(receiver.requests) == len(TURNS))
        assert receiver.types == TURNS
        for request in receiver.requests:
            assert ForeignReceiver(secret).verify(request.body, request.headers)
        stuck, _, warned, completed, stopped, failed = (one.message for one in receiver.requests)
        assert stuck["data"]["finding"]["cause"] == "none lives"
        assert (warned["data"]["budget"], warned["data"]["used"]) == ("cost", 0.8)
        assert completed["data"]["counts"]["generated"] == completed["data"]["target"] == 2
        assert completed["data"]["recipe"] == example_spec(2).recipe.recipe.name
        assert stopped["data"]["batch_id"] == "batch_1767225600_00000002"
        assert failed["data"]["error"] == {"category": "auth", "message": "key refused"}
        sequences = [one.message["data"]["sequence"] for one in receiver.requests]
        epoch = (await api.log.event_log.head()).epoch
        assert receiver.ids == [f"evt_{epoch}_{at}" for at in sequences]
        while (await deliveries(api, path))[0]["sequence"] < sequences[-1]:
            await asyncio.sleep(0.02)  # the receiver knows it before the history does
        told = await deliveries(api, path)
        assert [one["sequence"] for one in told] == sequences[::-1]
        assert {(one["state"], one["attempts"], one["status"]) for one in told} == {
            ("delivered", 1, 204)
        }
        listed = (await api.client.get("/v1/webhooks")).text
        assert secret not in listed
        metrics = (await api.client.get("/metrics")).text
        assert 'millstream_webhook_attempts_total{state="delivered"} 6.0' in metrics


async def test_a_failing_receiver_is_tried_again_and_holds_up_no_other(
    tmp_path: Path, make_api: Any
) -> None:
    elsewhere = Receiver()
    replies = [0, 302, 503]

    def script(number: int) -> int | web.Response:
        if number >= len(replies):
            return 200
        if replies[number] == 302:
            return web.Response(status=302, headers={"Location": elsewhere.url})
        return replies[number]

    wanted = ["batch.completed", "batch.failed"]
    async with (
        elsewhere,
        Receiver(script) as weak,
        Receiver() as sound,
        served(tmp_path, make_api) as api,
    ):
        path, _ = await add(api, weak.url, events=wanted)
        await add(api, sound.url, events=wanted)
        await api.append(history().entries)
        await until(lambda: len(sound.requests) == 2)
        assert len(weak.requests) < 5
        await until(lambda: len(weak.requests) == 5)
        assert weak.types == ["batch.completed"] * 4 + ["batch.failed"]
        assert len(set(weak.ids)) == 2
        assert elsewhere.requests == []
        while len(told := await deliveries(api, path)) < 2:
            await asyncio.sleep(0.02)
        assert [(one["state"], one["attempts"]) for one in told] == [
            ("delivered", 1),
            ("delivered", 4),
        ]


async def test_what_failed_is_seen_with_its_reason_and_next_attempt(
    tmp_path: Path, make_api: Any
) -> None:
    async with Receiver(lambda _: 500) as receiver, served(tmp_path, make_api) as api:
        path, _ = await add(api, receiver.url, events=["batch.failed"])
        await api.append(history().entries)
        while not (told := await deliveries(api, path)):
            await asyncio.sleep(0.02)
        assert (told[0]["state"], told[0]["error"]) == ("retrying", "answered 500")
        assert told[0]["next_at"] > told[0]["last_at"]
        view = (await api.client.get(path)).json()["webhook"]
        assert view["last"]["state"] == "retrying"
        assert view["sequence"] < told[0]["sequence"]


async def test_the_other_api_delivers_what_a_killed_one_left(tmp_path: Path) -> None:
    settings = {"webhook_private": "true"}
    async with running_log(tmp_path) as log, Receiver() as receiver:
        url = log.settings.nats_url
        with ApiProcess(tmp_path / "first.log", url, node="first", **settings) as first:
            async with httpx.AsyncClient(base_url=first.url, timeout=20) as client:
                answer = await client.post("/v1/webhooks", json={"url": receiver.url})
                assert answer.status_code == 201, answer.text
            receiver.held.clear()  # the first one's request stays unanswered
            await _append(log, history())
            await until(lambda: len(receiver.requests) == 1)
            with ApiProcess(tmp_path / "second.log", url, node="second", **settings):
                first.kill()
                receiver.held.set()
                await until(lambda: len(set(receiver.ids)) == len(TURNS))
    # Of the first message a slow machine may see more tries than the one that was left unanswered.
    assert receiver.types[-len(TURNS) :] == TURNS
    tries = receiver.ids[: -len(TURNS) + 1]
    assert len(tries) > 1
    assert set(tries) == {receiver.ids[0]}


async def _append(log: RunningLog, tape: Tape) -> None:
    placed: dict[str, int] = {}
    for entry in tape.entries:
        event = entry.recorded.event
        expected = placed.get(event.subject, 0)
        placed[event.subject] = await log.event_log.append(event, expected=expected)


async def test_a_webhook_is_switched_off_and_on_replayed_tested_and_removed(
    tmp_path: Path, make_api: Any
) -> None:
    async with Receiver() as receiver, served(tmp_path, make_api) as api:
        path, secret = await add(api, receiver.url, description="the pager")
        ping = (await api.client.post(f"{path}/test")).json()
        assert (ping["state"], ping["type"], ping["status"]) == ("delivered", "ping", 204)
        assert receiver.types == ["ping"]
        off = await api.client.patch(path, json={"is_active": False})
        assert not off.json()["webhook"]["is_active"]
        await api.append(history().entries)
        key = {"Idempotency-Key": "renew once"}
        renewed = [(await api.client.post(f"{path}/rotate", headers=key)).json() for _ in range(2)]
        assert renewed[0]["secret"] == renewed[1]["secret"] != secret
        assert len(receiver.requests) == 1
        await api.client.patch(path, json={"is_active": True})
        await until(lambda: len(receiver.requests) == 1 + len(TURNS))
        for known in (secret, renewed[0]["secret"]):  # both, for a day
            last = receiver.requests[-1]
            assert ForeignReceiver(known).verify(last.body, last.headers)
        first = receiver.requests[1].message["data"]["sequence"]
        again = await api.client.post(f"{path}/replay", json={"after": first})
        assert again.json()["webhook"]["sequence"] == first
        await until(lambda: len(receiver.requests) == 2 * len(TURNS))
        assert receiver.ids[-5:] == receiver.ids[2:7]
        gone = await api.client.delete(path)
        assert gone.json()["webhook"]["description"] == "the pager"
        assert (await api.client.get(path)).status_code == 404
        assert (await api.client.get("/v1/webhooks")).json() == {"webhooks": []}


async def test_an_event_that_is_stored_while_it_is_looked_for_is_not_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_log(tmp_path) as log:
        tape = Tape()
        batch(tape, 1)
        await _append(log, tape)
        known = (await log.event_log.head()).last
        after = log.event_log.after
        late = history()
        late.entries[:] = [
            one
            for one in late.entries
            if one.recorded.event.subject
            not in {
                tape.entries[0].recorded.event.subject,
                "mill.events.batch_1767225600_00000001.note",
            }
        ]
        note = batch(Tape(), 1)
        note.warn_budget()

        async def slow(subject: str, sequence: int) -> Any:
            """Let a control event and then a note be stored between the two looks."""
            found = await after(subject, sequence)
            if subject == subjects.ALL_CONTROL and late.entries:
                await _append(log, late)
                late.entries.clear()
                await log.event_log.append(note.tape.entries[-1].recorded.event, expected=0)
            return found

        monkeypatch.setattr(log.event_log, "after", slow)
        messages = Messages(log.event_log)
        told, place = [], known
        for _ in range(10):
            until = max(known, place)
            place, due = await messages.next(place, WEBHOOK_EVENTS, until=until)
            told += [due.message.type] if due else []
            known = (await log.event_log.head()).last
        assert told == ["batch.stopped", "batch.failed", "batch.budget_warned"]
