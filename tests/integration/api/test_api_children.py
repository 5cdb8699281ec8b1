"""Children and clones over HTTP: what they pin, and that there is one child however it is asked."""

import asyncio
import json
from typing import Any

import pytest

from millstream.eventlog.buckets import Bucket
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.nats import everything, running_log
from millstream_api.idempotency import IdempotencyKeys
from millstream_schemas import subjects
from millstream_schemas.commands import RefillBatch

pytestmark = pytest.mark.anyio

PARENT = "batch_1767225600_0000aaaa"
CHILD = "batch_1767225600_0000bbbb"


async def ended_batch(api: Any, *, failed: int = 2, open_: int = 3, **fields: Any) -> Script:
    """Store a stopped batch of eight samples: some made, some failed, some never tried."""
    made = Script(batch_id=PARENT, spec=example_spec(8, slice_size=4, **fields))
    made.start()
    for index in range(2):
        made.claim(index)
    for slot in range(8 - open_):
        made.fail(slot) if slot < failed else made.generate(slot)
    made.stop()
    await api.append(made.tape.entries)
    return made


async def starts(api: Any) -> list[dict[str, Any]]:
    """Return every BatchStarted in the log."""
    stored = [json.loads(item.payload) for item in await everything(api.log.event_log)]
    return [event for event in stored if event["type"] == "batch.started.v1"]


async def post(api: Any, path: str, body: Any = None, **headers: str) -> Any:
    return await api.client.post(f"/v1/batches/{PARENT}/{path}", json=body, headers=headers)


async def test_a_child_continues_its_parent_in_the_same_dataset(lone_api: Any) -> None:
    await ended_batch(lone_api, topic="Law - Torts", instruction="Be brief", priority="high")
    answer = await post(lone_api, "continue", {"overrides": {"seed": 5}, "reason": "go on"})
    assert answer.status_code == 201, answer.text
    child = answer.json()["batch"]
    assert answer.headers["location"] == f"/v1/batches/{child['id']}"
    assert (child["parent_id"], child["dataset_id"], child["target"]) == (PARENT, PARENT, 5)
    assert (child["topic"], child["instruction"], child["seed"]) == ("Law - Torts", "Be brief", 5)
    assert (child["priority"], child["model"]) == ("high", "simulated/fast")
    event = (await starts(lone_api))[-1]
    assert sum(quota["count"] for quota in event["spec"]["quotas"]) == 5
    assert event["reason"] == "go on"
    await lone_api.folded(answer.json()["sequence"])
    parent = (await lone_api.client.get(f"/v1/batches/{PARENT}")).json()["batch"]
    assert (parent["child_id"], parent["state"]) == (child["id"], "stopped")
    again = await post(lone_api, "retry-failed")
    assert (again.status_code, again.json()["child_id"]) == (409, child["id"])
    assert again.json()["type"] == "urn:millstream:problem:already_continued"
    assert child["id"] in again.json()["detail"]
    assert again.json()["allowed"] == ["clone"]


async def test_only_failed_samples_are_retried(lone_api: Any) -> None:
    await ended_batch(lone_api)
    overrides = {"model": "simulated/slow", "max_attempts": 1, "budgets": {"max_tokens": 9000}}
    answer = await post(lone_api, "retry-failed", {"overrides": overrides})
    child = answer.json()["batch"]
    assert (answer.status_code, child["target"], child["model"]) == (201, 2, "simulated/slow")
    assert child["budgets"]["max_tokens"] == 9000
    assert (await starts(lone_api))[-1]["spec"]["max_attempts"] == 1


async def test_what_a_retry_of_the_failed_left_can_be_continued(lone_api: Any) -> None:
    await ended_batch(lone_api, failed=2, open_=3)
    retry = (await post(lone_api, "retry-failed")).json()["batch"]
    again = await post(lone_api, "retry-failed")
    assert (again.status_code, again.json()["child_id"]) == (409, retry["id"])
    assert f"{retry['id']} makes its failed samples" in again.json()["detail"]
    assert again.json()["allowed"] == ["continue", "clone"]
    answer = await post(lone_api, "continue")
    assert answer.status_code == 201, answer.text
    rest = answer.json()["batch"]
    assert (rest["parent_id"], rest["dataset_id"], rest["target"]) == (PARENT, PARENT, 3)
    await lone_api.folded(answer.json()["sequence"])
    parent = (await lone_api.client.get(f"/v1/batches/{PARENT}")).json()["batch"]
    assert (parent["retry_id"], parent["child_id"]) == (retry["id"], rest["id"])
    for path, child in (("retry-failed", retry), ("continue", rest)):
        refused = await post(lone_api, path)
        assert (refused.status_code, refused.json()["child_id"]) == (409, child["id"])
        assert refused.json()["allowed"] == ["clone"]
    assert len(await starts(lone_api)) == 3


async def test_a_wrong_override_is_refused_by_its_field_and_nothing_is_stored(
    lone_api: Any,
) -> None:
    await ended_batch(lone_api)
    before = (await lone_api.log.event_log.head()).last
    for path in ("continue", "clone"):
        for overrides, field in (
            ({"model": "nothing"}, "model"),
            ({"provider": "nobody"}, "provider"),
            ({"concurrency": 0}, "overrides.concurrency"),
            ({"colour": "red"}, "overrides.colour"),
            ({"budgets": {"max_cost_usd": -1}}, "overrides.budgets.max_cost_usd"),
            ({"budgets": 5}, "overrides.budgets"),
            ({"budgets": {"max_tokens": 10}}, "budgets.max_tokens"),
        ):
            refused = await post(lone_api, path, {"overrides": overrides})
            assert refused.status_code == 422, (overrides, refused.text)
            assert refused.json()["errors"][0]["field"] == field
    for overrides in ({"target": 5}, {"topic": "Law - Torts"}, {"recipe": "legal-qa"}):
        refused = await post(lone_api, "continue", {"overrides": overrides})
        assert "no such field here" in refused.json()["detail"]
    refused = await post(lone_api, "clone", {"overrides": {"topic": "Cooking - Soup"}})
    assert refused.json()["errors"][0]["field"] == "topic"
    assert (await lone_api.log.event_log.head()).last == before


async def test_a_key_starts_one_child_and_a_repeat_gives_the_same(lone_api: Any) -> None:
    await ended_batch(lone_api)
    for path in ("continue", "clone"):
        answers = await asyncio.gather(
            *(post(lone_api, path, {}, **{"Idempotency-Key": "one"}) for _ in range(24))
        )
        answers.append(await post(lone_api, path, {}, **{"Idempotency-Key": "one"}))
        assert sorted({answer.status_code for answer in answers}) == [200, 201]
        assert [answer.status_code for answer in answers].count(201) == 1
        assert len({answer.json()["batch"]["id"] for answer in answers}) == 1
        assert len({answer.json()["sequence"] for answer in answers}) == 1
        other = {"overrides": {"seed": 7}}
        conflict = await post(lone_api, path, other, **{"Idempotency-Key": "one"})
        assert conflict.status_code == 409
        assert conflict.json()["type"].endswith("idempotency_conflict")
    assert len(await starts(lone_api)) == 3


async def test_of_many_commands_at_once_no_two_make_the_same(lone_api: Any) -> None:
    await ended_batch(lone_api)
    paths = ["continue", "retry-failed"] * 5
    answers = await asyncio.gather(*(post(lone_api, path) for path in paths))
    made = [answer.json()["batch"] for answer in answers if answer.status_code == 201]
    # A retry may come first; then the other one makes the rest.
    assert sorted(child["target"] for child in made) in ([5], [2, 3])
    refused = [answer.json() for answer in answers if answer.status_code == 409]
    assert len(refused) + len(made) == len(answers)
    assert {body["child_id"] for body in refused} == {child["id"] for child in made}
    assert len(await starts(lone_api)) == 1 + len(made)


@pytest.mark.parametrize("key", [None, "cut off"])
async def test_a_command_cut_off_before_its_child_began_is_completed_by_a_repeat(
    lone_api: Any, key: str | None
) -> None:
    made = await ended_batch(lone_api)
    if key is not None:
        bucket = Bucket(lone_api.log.event_log.answers, subjects.IDEMPOTENCY_BUCKET)
        scope = f"continue {PARENT}"
        await IdempotencyKeys(bucket).claim(key, RefillBatch(), CHILD, scope)
    made.note_child(CHILD, slots=5)
    await lone_api.append(made.tape.entries[-1:])
    headers = {"Idempotency-Key": key} if key else {}
    other = await post(lone_api, "retry-failed")
    assert (other.status_code, other.json()["child_id"]) == (409, CHILD)
    assert "send continue again" in other.json()["detail"]
    answer = await post(lone_api, "continue", {}, **headers)
    assert answer.status_code == 201, answer.text
    assert (answer.json()["batch"]["id"], answer.json()["batch"]["target"]) == (CHILD, 5)
    again = await post(lone_api, "continue", {}, **headers)
    assert again.status_code == (409 if key is None else 200)
    assert len(await starts(lone_api)) == 2


async def test_a_retry_cut_off_is_not_taken_for_one_that_began(lone_api: Any) -> None:
    made = await ended_batch(lone_api, failed=2, open_=0)
    made.note_child(CHILD, kind="retry_failed", slots=2)
    await lone_api.append(made.tape.entries[-1:])
    other = await post(lone_api, "continue")
    assert (other.status_code, other.json()["child_id"]) == (409, CHILD)
    assert "send retry-failed again" in other.json()["detail"]
    assert (await post(lone_api, "retry-failed")).json()["batch"]["id"] == CHILD


async def test_a_key_cut_off_before_the_note_is_completed_under_its_id(lone_api: Any) -> None:
    await ended_batch(lone_api)
    bucket = Bucket(lone_api.log.event_log.answers, subjects.IDEMPOTENCY_BUCKET)
    await IdempotencyKeys(bucket).claim("k", RefillBatch(), CHILD, f"continue {PARENT}")
    answer = await post(lone_api, "continue", {}, **{"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["batch"]["id"]) == (201, CHILD)


async def test_a_note_that_another_wrote_meanwhile_does_not_hinder(lone_api: Any) -> None:
    """The child's note is appended after the newest one, whoever wrote that."""
    made = await ended_batch(lone_api)
    made.clear_stuck("no_progress")
    made.warn_budget()
    await lone_api.append(made.tape.entries[-2:])
    assert (await post(lone_api, "continue")).status_code == 201


async def test_a_clone_is_a_dataset_of_its_own(lone_api: Any) -> None:
    await ended_batch(lone_api, difficulty="basic")
    overrides = {"target": 640, "difficulty": None, "sample_type": "educational"}
    answer = await post(lone_api, "clone", {"overrides": overrides})
    clone = answer.json()["batch"]
    assert (answer.status_code, clone["parent_id"], clone["dataset_id"]) == (201, None, clone["id"])
    assert (clone["target"], clone["slice_size"], clone["recipe"]) == (640, 20, "example")
    assert (clone["difficulty"], clone["sample_type"]) == (None, "educational")
    parent = (await lone_api.client.get(f"/v1/batches/{PARENT}")).json()["batch"]
    assert parent["child_id"] is None


async def test_a_budget_is_pinned_and_one_without_a_price_is_refused(
    make_api: Any, tmp_path: Any
) -> None:
    models = tmp_path / "models.toml"
    models.write_text(
        '[[models]]\nid = "own"\n[[models.routes]]\nlitellm_model = "openai/own-model"\n'
        'api_base = "http://127.0.0.1:9/v1"\n'
        '[[models]]\nid = "dear"\n[[models.routes]]\nlitellm_model = "openai/dear"\n'
        'api_base = "http://127.0.0.1:9/v1"\n'
        "input_usd_per_million = 1.0\noutput_usd_per_million = 2.0\n"
    )
    async with (
        running_log(tmp_path) as log,
        make_api(log, projector=False, models_file=models) as api,
    ):
        body = {"target": 5, "budgets": {"max_cost_usd": 0.25, "max_failure_ratio": 0.5}}
        batch = (await api.client.post("/v1/batches", json=body)).json()["batch"]
        assert batch["budgets"]["max_cost_nano_usd"] == 250_000_000
        assert batch["budgets"]["max_failure_ratio"] == 0.5
        for budgets, value in ({"max_cost_usd": 1e-7}, 1e-7), ({"max_tokens": 10}, 10):
            asked = {"target": 5, "model": "dear", "budgets": budgets}
            refused = await api.client.post("/v1/batches", json=asked)
            assert refused.status_code == 422
            assert float(refused.json()["errors"][0]["value"]) == value
            assert "give at least" in refused.json()["detail"]
        refused = await api.client.post("/v1/batches", json={**body, "model": "own"})
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == "budgets.max_cost_usd"
        for words in ("openai/own-model", "input_usd_per_million", "MILLSTREAM_MODELS_FILE"):
            assert words in refused.json()["detail"]
