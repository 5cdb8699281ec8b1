"""The same command for many batches: by ids and by filter, for real and as a dry run."""

import asyncio
import json
from typing import Any

import pytest

from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import everything
from millstream.testing.waiting import BOUND_S
from millstream_schemas.control import BatchStarted

pytestmark = pytest.mark.anyio

UNKNOWN = "batch_1111111111_00000000"


async def ended_batch(
    api: Any, number: int, *, failed: int = 1, model: str = "simulated/fast"
) -> str:
    """Store a batch of four samples that was completed, the last ``failed`` of them failed."""
    made = Script(
        batch_id=f"batch_1767225600_{number:08x}", spec=example_spec(4, slice_size=2, model=model)
    )
    made.run(failed=range(4 - failed, 4))
    await api.append(made.tape.entries)
    return made.batch_id


async def bulk(api: Any, **body: Any) -> Any:
    return await api.client.post("/v1/batches:bulk", json=body)


def statuses(answer: Any) -> dict[str, int]:
    """Return each batch's status."""
    assert answer.status_code == 207, answer.text
    return {item["id"]: item["status"] for item in answer.json()["results"]}


async def state(api: Any, batch_id: str) -> str:
    return str((await api.client.get(f"/v1/batches/{batch_id}")).json()["batch"]["state"])


async def test_every_action_tells_each_outcome_and_shares_one_command(lone_api: Any) -> None:
    one, two = await lone_api.start(), await lone_api.start()
    ended = await ended_batch(lone_api, 1)
    ids = [one, UNKNOWN, ended, two, one]
    for action, more, live, over in (
        ("pause", {"reason": "night"}, 202, 409),
        ("pause", {}, 200, 409),
        ("priority", {"priority": "low"}, 200, 409),
        ("resume", {}, 202, 409),
        ("stop", {"mode": "drain", "grace_s": 500}, 202, 409),
        ("stop", {}, 202, 409),
    ):
        before = (await lone_api.log.event_log.head()).last
        answer = await bulk(lone_api, action=action, ids=ids, **more)
        assert statuses(answer) == {one: live, UNKNOWN: 404, ended: over, two: live}, action
        results = {item["id"]: item for item in answer.json()["results"]}
        assert [item["id"] for item in answer.json()["results"]] == [one, UNKNOWN, ended, two]
        assert "does not exist" in results[UNKNOWN]["detail"]
        assert results[ended]["state"] == "completed"
        assert results[one]["detail"] is None
        for found in await everything(lone_api.log.event_log):
            if found.sequence > before:
                event = json.loads(found.payload)
                # The refusals of the action before may be told only now.
                if event["type"] != "command.refused.v2":
                    assert event["command_id"] == answer.json()["command_id"]
    async with asyncio.timeout(BOUND_S):
        while await state(lone_api, one) != "stopped":
            await asyncio.sleep(0.02)


async def test_many_batches_are_continued_at_once(lone_api: Any) -> None:
    ended = [await ended_batch(lone_api, number) for number in range(1, 4)]
    whole = await ended_batch(lone_api, 9, failed=0)
    live = await lone_api.start()
    wanted = {"action": "retry-failed", "ids": [*ended, whole, live]}
    rehearsed = await bulk(lone_api, dry_run=True, **wanted)
    answer = await bulk(lone_api, **wanted)  # as the path spells it, or with an underscore
    assert statuses(rehearsed) == statuses(answer)
    assert statuses(answer) == {**dict.fromkeys(ended, 201), whole: 409, live: 409}
    children = {item["id"]: item["child_id"] for item in answer.json()["results"]}
    for parent in ended:
        child = (await lone_api.client.get(f"/v1/batches/{children[parent]}")).json()["batch"]
        assert (child["parent_id"], child["target"], child["state"]) == (parent, 1, "queued")
    again = await bulk(lone_api, action="continue", ids=ended)
    assert statuses(again) == dict.fromkeys(ended, 409)
    assert {item["id"]: item["child_id"] for item in again.json()["results"]} == {
        parent: children[parent] for parent in ended
    }


async def test_a_dry_run_tells_what_would_happen_and_changes_nothing(lone_api: Any) -> None:
    live, ended = await lone_api.start(), await ended_batch(lone_api, 1)
    before = (await lone_api.log.event_log.head()).last
    for action, more, words, expected in (
        ("stop", {}, "it would be stopped", {live: 202, ended: 409, UNKNOWN: 404}),
        ("pause", {}, "it would be paused", {live: 202, ended: 409, UNKNOWN: 404}),
        ("resume", {}, "it is so already", {live: 200, ended: 409, UNKNOWN: 404}),
        ("priority", {"priority": "high"}, "given that", {live: 200, ended: 409, UNKNOWN: 404}),
        ("continue", {}, "can't be continued", {live: 409, ended: 201, UNKNOWN: 404}),
    ):
        answer = await bulk(
            lone_api, action=action, ids=[live, ended, UNKNOWN], dry_run=True, **more
        )
        assert statuses(answer) == expected, action
        assert answer.json()["dry_run"] is True
        changed = {one["id"] for one in answer.json()["results"] if one["changed"]}
        assert changed == {"resume": set(), "continue": {ended}}.get(action, {live})
        assert words in answer.json()["results"][0]["detail"]
        if action == "continue":
            child = answer.json()["results"][1]["detail"]
            assert child == "a child of 1 sample would be started"
    assert (await lone_api.log.event_log.head()).last == before
    assert await state(lone_api, live) == "queued"


async def test_a_filter_of_live_batches_needs_no_projector(lone_api: Any) -> None:
    fast, slow = await lone_api.start(), await lone_api.start(model="simulated/slow")
    wanted = {"model": "simulated/slow"}
    assert statuses(await bulk(lone_api, action="pause", filter=wanted)) == {slow: 202}
    assert statuses(await bulk(lone_api, action="pause", filter=wanted)) == {}
    only = {"states": ["paused", "queued"], "recipe": "legal-qa"}
    found = statuses(await bulk(lone_api, action="resume", filter=only))
    assert found == {fast: 200, slow: 202}
    twice = [await bulk(lone_api, action="pause", ids=[fast]) for _ in range(2)]
    assert [answer.json()["results"][0]["changed"] for answer in twice] == [True, False]
    refused = await bulk(lone_api, action="stop", filter={"text": "anything"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")


async def test_a_filter_finds_ended_batches_in_the_read_model(api: Any) -> None:
    ended = [await ended_batch(api, number) for number in (1, 2)]
    other = await ended_batch(api, 3, model="simulated/slow")
    live = await api.start()
    wanted = {"model": "simulated/fast"}
    answer = await bulk(api, action="retry_failed", filter=wanted)
    assert statuses(answer) == dict.fromkeys(reversed(ended), 201)
    answer = await bulk(
        api, action="stop", filter={"states": ["completed", "queued"]}, dry_run=True
    )
    found = statuses(answer)
    assert {found[ended[0]], found[ended[1]], found[other]} == {409}
    assert found[live] == 202


async def test_more_than_a_thousand_batches_are_too_many(lone_api: Any) -> None:
    spec = example_spec(1, slice_size=1)
    scripts = [Script(batch_id=f"batch_1767225600_{n:08x}", spec=spec) for n in range(1001)]
    events: list[tuple[BatchStarted, int]] = []
    for made in scripts:
        event = made.start().event
        assert isinstance(event, BatchStarted)
        events.append((event, 0))
    for first in range(0, len(events), 200):
        await lone_api.log.event_log.append_together(events[first : first + 200])
    refused = await bulk(lone_api, action="stop", filter={"states": ["queued"]}, dry_run=True)
    assert refused.status_code == 413, refused.text
    assert refused.json()["detail"].startswith("1,001 batches meet the filter")
    ids = [made.batch_id for made in scripts]
    too_long = await bulk(lone_api, action="stop", ids=ids)
    assert (too_long.status_code, too_long.json()["errors"][0]["field"]) == (413, "ids")
    assert "give a list of 1 to 1,000 batch ids" in too_long.json()["detail"]
    paused = statuses(await bulk(lone_api, action="pause", ids=ids[:1000]))
    assert paused == dict.fromkeys(ids[:1000], 202)


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"action": "stop"}, "body", "give either ids or filter"),
        ({"ids": [UNKNOWN], "filter": {"model": "m"}}, "body", "give either ids or filter"),
        ({"ids": []}, "ids", "1 to 1,000 batch ids"),
        ({"ids": ["x"]}, "ids.0", "ids.0='x' is not valid: give a list of 1 to 1,000 batch ids"),
        ({"ids": UNKNOWN}, "ids", "1 to 1,000 batch ids"),
        ({"ids": [UNKNOWN], "action": "delete"}, "action", "'stop', 'pause'"),
        ({"ids": [UNKNOWN], "action": "priority"}, "body", "give priority with the action"),
        ({"ids": [UNKNOWN], "priority": "high"}, "body", "give priority with the action"),
        ({"ids": [UNKNOWN], "action": "pause", "mode": "drain"}, "body", "mode go with the action"),
        ({"filter": {}}, "filter", "name at least one of states, model, recipe and text"),
        ({"filter": {"states": ["walking"]}}, "filter.states.0", "'queued', 'running'"),
        ({"filter": 5}, "filter", "filter=5 is not valid: give a JSON object"),
        ({"ids": [UNKNOWN], "grace_s": 601}, "grace_s", "600"),
        ({"ids": [UNKNOWN], "grace_s": 5}, "grace_s", 'add "mode": "drain"'),
        ({"ids": [UNKNOWN], "dry_run": None}, "dry_run", "dry_run=null"),
    ],
)
async def test_a_bulk_command_that_can_not_be_is_refused_in_words(
    lone_api: Any, body: dict[str, Any], field: str, words: str
) -> None:
    refused = await bulk(lone_api, **body)
    assert refused.status_code == 422, refused.text
    assert refused.json()["errors"][0]["field"] == field
    assert words in refused.json()["detail"]


async def test_a_version_that_can_not_hold_for_all_is_refused(lone_api: Any) -> None:
    batch_id = await lone_api.start()
    body = {"action": "pause", "ids": [batch_id]}
    refused = await lone_api.client.post("/v1/batches:bulk", json=body, headers={"If-Match": '"1"'})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "If-Match")
    assert "each batch has a version of its own" in refused.json()["detail"]
    assert await state(lone_api, batch_id) == "queued"
