"""The lossless stream over real HTTP: its filters, what is erased or lost, and odd places."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from millstream.cli.sse import Parser, ServerEvent
from millstream.domain.decide import Stamp
from millstream.eventlog.redacting import redact
from millstream.runtime.clock import new_id, utc_now
from millstream.testing.erasable import PERSON, publish_person
from millstream.testing.followers import EVENTS
from millstream.testing.nats import everything, fill_stream, running_log
from millstream.testing.waiting import BOUND_S
from millstream_schemas import subjects
from millstream_schemas.envelope import Actor

pytestmark = pytest.mark.anyio


async def read(
    api: Any, query: str, last_id: str, *, until_sequence: int = 0, events: int = 0
) -> list[ServerEvent]:
    """Return events from ``last_id`` on, up to a sequence or so many of them."""
    found: list[ServerEvent] = []
    parser = Parser(last_id)
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with (
        asyncio.timeout(BOUND_S),
        api.client.stream("GET", f"{EVENTS}{query}", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        async for chunk in answer.aiter_raw():
            found += parser.feed(chunk)
            reached = int(parser.last_id.partition("-")[0] or 0)
            if (until_sequence and reached >= until_sequence) or (events and len(found) >= events):
                return found
    raise AssertionError(f"the stream ended after {found}")


def names_of(found: list[ServerEvent]) -> list[tuple[int, str]]:
    return [
        (int(event.last_id.partition("-")[0]), event.name)
        for event in found
        if event.name != "heartbeat"
    ]


async def test_filters_by_batch_and_type_hold_in_the_ring_and_behind_it(
    tmp_path: Path, make_api: Any
) -> None:
    async with running_log(tmp_path) as log:
        script, _ = await publish_person(log.event_log)
        await fill_stream(log.event_log, 600)
        async with make_api(log, projector=False) as api:  # all of this is behind its ring
            end = (await log.event_log.head()).last
            stored = await everything(log.event_log)
            own = [
                (one.sequence, json.loads(one.payload)["type"])
                for one in stored
                if script.batch_id in one.subject
            ]
            batch = f"&batch_id={script.batch_id}"
            for _ in range(2):
                found = await read(api, batch, "0", until_sequence=end)
                assert names_of(found) == own
                generated = "&type=sample.generated.v1"
                found = await read(api, generated, "0", until_sequence=end)
                assert names_of(found) == [pair for pair in own if "generated" in pair[1]]
                found = await read(api, f"{batch}{generated}&type=batch.started.v1", "0", events=7)
                assert {name for _, name in names_of(found)} == {
                    "sample.generated.v1",
                    "batch.started.v1",
                }


async def test_an_erased_event_is_a_stand_in_and_a_lost_one_a_gap(
    tmp_path: Path, make_api: Any
) -> None:
    async with running_log(tmp_path) as log, make_api(log, projector=False) as api:
        script, end = await publish_person(log.event_log)
        before = await read(api, "", "0", until_sequence=end)
        assert PERSON in "".join(event.data for event in before)
        stamp = Stamp(new_id, utc_now(), Actor(kind="user", id="ada"), "test", "command")
        outcome = await redact(
            log.event_log, script.batch_id, [1, 5], stamp, reason="asked", attempts=True
        )
        last = (await log.event_log.head()).last
        live = await read(api, "", "0", until_sequence=last)  # out of the ring
        async with make_api(log, projector=False) as behind:
            for query in ("", f"&batch_id={script.batch_id}"):
                replayed = await read(behind, query, "0", until_sequence=last)
                assert names_of(replayed) == names_of(live)
                for found in (live, replayed):
                    texts = "".join(event.data for event in found)
                    assert PERSON not in texts
                    assert texts.count('"redacted"') >= len(outcome.redacted)
            assert [number for number, _ in names_of(live)] == list(range(1, last + 1))
            gone = next(number for number, name in names_of(live) if name == "slice.claimed.v1")
            await log.connection.jetstream().delete_msg(subjects.EVENTS, gone)
            for query in ("", f"&batch_id={script.batch_id}"):
                holed = await read(behind, query, "0", until_sequence=last)
                wanted = [
                    (number, "gap" if number == gone else name) for number, name in names_of(live)
                ]
                assert names_of(holed) == wanted
                [gap] = [json.loads(event.data) for event in holed if event.name == "gap"]
                assert gap == {"from": gone, "to": gone, "reason": "lost"}


@pytest.mark.parametrize("last_id", ["-5", "x", "99-ffffffff", "999999999", "0-zz"])
async def test_a_place_that_this_stream_does_not_have_is_told_as_a_gap(
    lone_api: Any, last_id: str
) -> None:
    await fill_stream(lone_api.log.event_log, 5, slices=1)
    await lone_api.folded(5)
    gap, heartbeat = await read(lone_api, f"&last_event_id={last_id}", "", events=2)
    assert (gap.name, json.loads(gap.data)) == (
        "gap",
        {"from": None, "to": 5, "reason": "unknown_position"},
    )
    assert (heartbeat.name, heartbeat.last_id) == ("heartbeat", gap.last_id)
    [heartbeat] = await read(lone_api, "", "", events=1)  # who names no place starts at the end
    assert json.loads(heartbeat.data)["as_of"] == 5


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("flavour=all", "flavour"),
        ("flavour=seed", "flavour"),
        ("type=sample.generated.v1", "type"),
        ("flavour=events&type=*", "type"),
    ],
)
async def test_a_wish_that_can_not_be_is_refused_in_words(
    lone_api: Any, query: str, field: str
) -> None:
    answer = await lone_api.client.get(f"/v1/stream?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field
