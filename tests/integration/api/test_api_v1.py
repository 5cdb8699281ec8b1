"""/v1 over real HTTP with a projector: commands, reads, preconditions, repeats."""

import asyncio
from typing import Any

import pytest

from millstream.eventlog.buckets import Bucket
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.histories import FINDING
from millstream.testing.nats import everything
from millstream.testing.waiting import BOUND_S
from millstream_api.idempotency import IdempotencyKeys
from millstream_schemas import subjects
from millstream_schemas.commands import StartBatch

pytestmark = pytest.mark.anyio

UNKNOWN = "batch_1111111111_00000000"


def finished(number: int, target: int = 6) -> Script:
    made = Script(
        batch_id=f"batch_1767225600_{number:08x}", spec=example_spec(target, slice_size=2)
    )
    return made.run(failed=[1])


async def test_a_started_batch_is_there_at_once(api: Any) -> None:
    answer = await api.client.post(
        "/v1/batches", json={"target": 100, "concurrency": 3, "seed": 5, "instruction": "Be brief"}
    )
    assert answer.status_code == 201
    body = answer.json()
    batch, sequence = body["batch"], body["sequence"]
    assert answer.headers["location"] == f"/v1/batches/{batch['id']}"
    assert (batch["state"], batch["target"], batch["slice_size"]) == ("queued", 100, 4)
    assert (batch["model"], batch["seed"], batch["concurrency"]) == ("simulated/fast", 5, 3)
    assert batch["counts"]["pending"] == 100
    assert batch["counts"]["cost_nano_usd"] is None
    got = (await api.client.get(f"/v1/batches/{batch['id']}?min_sequence={sequence}")).json()
    assert got["batch"] == batch
    assert got["as_of"] >= sequence
    await api.folded(sequence)
    listed = (await api.client.get(f"/v1/batches?min_sequence={sequence}")).json()
    assert [item["id"] for item in listed["batches"]] == [batch["id"]]
    assert listed["total"] == 1


async def test_pause_resume_and_stop_follow_the_state_machine(api: Any) -> None:
    batch_id = await api.start()
    path = f"/v1/batches/{batch_id}"
    states = []
    for command, status in (
        ("resume", 200),
        ("pause", 202),
        ("pause", 200),
        ("resume", 202),
        ("stop", 202),
    ):
        answer = await api.client.post(f"{path}/{command}", json={"reason": "because"})
        assert answer.status_code == status, (command, answer.text)
        states.append(answer.json()["batch"]["state"])
    assert states == ["queued", "paused", "paused", "queued", "stopping"]
    sequence = await ended(api, batch_id)
    again = await api.client.post(f"{path}/stop")
    assert (again.status_code, again.json()["batch"]["state"]) == (200, "stopped")
    assert again.json()["batch"]["stop_reason"] == "because"
    assert again.json()["batch"]["stopped_by"] == "local"
    refused = await api.client.post(f"{path}/pause")
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"].endswith("invalid_transition")
    assert refused.json()["allowed"] == ["continue", "clone"]
    assert (await api.client.get(f"{path}?min_sequence={sequence}")).json()["batch"]["version"]


async def ended(api: Any, batch_id: str) -> int:
    """Wait until the batch has ended; returns its last sequence."""
    async with asyncio.timeout(BOUND_S):
        while True:
            batch = (await api.client.get(f"/v1/batches/{batch_id}")).json()["batch"]
            if batch["finished_at"]:
                return int(batch["sequence"])
            await asyncio.sleep(0.02)


async def test_a_refused_command_names_what_is_allowed(api: Any) -> None:
    made = finished(1)
    made_id = made.batch_id
    await api.append(made.tape.entries)
    refused = await api.client.post(f"/v1/batches/{made_id}/stop")
    assert (refused.status_code, refused.json()["state"]) == (409, "completed")
    batch_id = await api.start()
    await api.client.post(f"/v1/batches/{batch_id}/stop")
    await ended(api, batch_id)
    refused = await api.client.post(f"/v1/batches/{batch_id}/resume")
    assert refused.json()["allowed"] == ["continue", "clone"]
    assert (await api.client.post(f"/v1/batches/{UNKNOWN}/stop")).status_code == 404


async def test_a_stale_version_is_refused_and_changes_nothing(api: Any) -> None:
    batch_id = await api.start()
    path = f"/v1/batches/{batch_id}"
    tag = (await api.client.get(path)).headers["etag"]
    assert (await api.client.post(f"{path}/pause", headers={"If-Match": tag})).status_code == 202
    stale = await api.client.post(f"{path}/stop", headers={"If-Match": tag})
    assert (stale.status_code, stale.json()["type"]) == (412, "urn:millstream:problem:stale")
    assert (await api.client.get(path)).json()["batch"]["state"] == "paused"
    bad = await api.client.post(f"{path}/stop", headers={"If-Match": "x"})
    assert (bad.status_code, bad.json()["errors"][0]["field"]) == (400, "If-Match")
    assert (await api.client.post(f"{path}/stop", headers={"If-Match": "*"})).status_code == 202


async def test_one_key_starts_one_batch_however_often_and_at_once_it_is_sent(api: Any) -> None:
    async def start() -> Any:
        return await api.client.post(
            "/v1/batches", json={"target": 5}, headers={"Idempotency-Key": "order 66 ü".encode()}
        )

    answers = await asyncio.gather(*(start() for _ in range(8)))
    answers.append(await start())
    assert sorted({answer.status_code for answer in answers}) == [200, 201]
    assert len({answer.json()["batch"]["id"] for answer in answers}) == 1
    assert [answer.status_code for answer in answers].count(201) == 1
    assert len({answer.json()["sequence"] for answer in answers}) == 1
    other = await api.client.post(
        "/v1/batches", json={"target": 6}, headers={"Idempotency-Key": "order 66 ü".encode()}
    )
    assert other.status_code == 409
    assert other.json()["type"].endswith("idempotency_conflict")
    stored = await everything(api.log.event_log)
    assert len([item for item in stored if item.subject != subjects.SYSTEM_COMMANDS]) == 1


async def test_two_starts_without_a_key_are_two_batches(api: Any) -> None:
    assert await api.start() != await api.start()


async def test_bulk_stops_exactly_the_listed_ones_and_tells_each_outcome(api: Any) -> None:
    made = finished(1)
    await api.append(made.tape.entries)
    stopped, spared = await api.start(), await api.start()
    answer = await api.client.post(
        "/v1/batches:bulk",
        json={"action": "stop", "ids": [stopped, UNKNOWN, made.batch_id], "reason": "tidy"},
    )
    assert answer.status_code == 207
    results = {item["id"]: item for item in answer.json()["results"]}
    assert {key: item["status"] for key, item in results.items()} == {
        stopped: 202,
        UNKNOWN: 404,
        made.batch_id: 409,
    }
    assert "does not exist" in results[UNKNOWN]["detail"]
    assert results[stopped]["detail"] is None
    await ended(api, stopped)
    assert (await api.client.get(f"/v1/batches/{spared}")).json()["batch"]["state"] == "queued"


async def test_the_list_is_filtered_and_paged_and_newest_first(api: Any) -> None:
    scripts = [finished(number) for number in range(1, 6)]
    await api.append([entry for script in scripts for entry in script.tape.entries])
    batch_id = await api.start(model="simulated/slow")
    path = "/v1/batches?limit=2"
    found: list[str] = []
    cursor = ""
    while True:
        page = (await api.client.get(path + (f"&cursor={cursor}" if cursor else ""))).json()
        found.extend(item["id"] for item in page["batches"])
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert found == [batch_id, *(script.batch_id for script in reversed(scripts))]
    for query, count in (
        ("state=completed", 5),
        ("state=completed&state=queued", 6),
        ("state=failed", 0),
        ("model=simulated/slow", 1),
        ("recipe=legal-qa", 1),
        ("recipe=nothing", 0),
    ):
        page = (await api.client.get(f"/v1/batches?{query}")).json()
        assert len(page["batches"]) == count, query


async def test_samples_events_quality_and_statistics_come_from_the_read_model(api: Any) -> None:
    made = finished(1)
    sequence = await api.append(made.tape.entries)
    path = f"/v1/batches/{made.batch_id}"
    samples = (await api.client.get(f"{path}/samples?limit=3&min_sequence={sequence}")).json()
    assert (samples["total"], len(samples["samples"])) == (5, 3)
    rest = (await api.client.get(f"{path}/samples?cursor={samples['next_cursor']}")).json()
    assert [item["slot"] for item in samples["samples"] + rest["samples"]] == [0, 2, 3, 4, 5]
    assert samples["samples"][0]["content"]["question"] == "What is 0?"
    events = (await api.client.get(f"{path}/events?limit=1000")).json()["events"]
    assert [item["sequence"] for item in events] == list(range(1, sequence + 1))
    after = (await api.client.get(f"{path}/events?after={sequence - 1}")).json()["events"]
    assert [item["event"]["type"] for item in after] == ["batch.completed.v1"]
    quality = (await api.client.get(f"{path}/quality")).json()
    assert (quality["total_samples"], quality["failed"]) == (5, 1)
    statistics = (await api.client.get(f"/v1/statistics?min_sequence={sequence}")).json()
    assert (statistics["total"], statistics["batches"]) == (5, 1)
    assert (await api.client.get(f"/v1/batches/{UNKNOWN}")).status_code == 404
    assert (await api.client.get(f"/v1/batches/{UNKNOWN}/quality")).status_code == 404


async def test_a_stuck_batch_is_listed_by_reading_alone(api: Any) -> None:
    made = Script(batch_id="batch_1767225600_00000009", spec=example_spec(4, slice_size=2))
    made.start()
    made.claim(0)
    made.detect_stuck(FINDING)
    sequence = await api.append(made.tape.entries)
    before = len(await everything(api.log.event_log))
    found = (await api.client.get(f"/v1/stuck?min_sequence={sequence}")).json()
    assert [item["id"] for item in found["batches"]] == [made.batch_id]
    assert found["batches"][0]["stuck"]["cause"] == FINDING.cause
    assert len(await everything(api.log.event_log)) == before


async def test_the_catalogue_tells_what_can_be_started(api: Any) -> None:
    recipes = (await api.client.get("/v1/recipes")).json()
    assert recipes["default"] == "legal-qa"
    assert recipes["broken"] == {}
    legal = next(item for item in recipes["recipes"] if item["name"] == "legal-qa")
    assert legal["topics"]
    assert legal["difficulties"]
    assert {"id", "name"} == set(legal["sample_types"][0])
    models = (await api.client.get("/v1/models")).json()
    assert models["default"] == "simulated/fast"
    by_id = {item["id"]: item for item in models["models"]}
    assert by_id["simulated/fast"]["available"] is True
    assert by_id["gpt-oss-120b"]["available"] is False
    assert "GROQ_API_KEY" in by_id["gpt-oss-120b"]["reason"]
    nodes = (await api.client.get("/v1/nodes")).json()["nodes"]
    assert {item["service"] for item in nodes} >= {"api"}


async def test_live_batches_are_answered_without_a_projector(lone_api: Any) -> None:
    batch_id = await lone_api.start()
    got = await lone_api.client.get(f"/v1/batches/{batch_id}")
    assert (got.status_code, got.json()["batch"]["state"]) == (200, "queued")
    assert (await lone_api.client.get("/v1/stuck")).status_code == 200
    for path in ("/v1/batches", "/v1/statistics", f"/v1/batches/{batch_id}/samples"):
        refused = await lone_api.client.get(path)
        assert refused.status_code == 503, path
        assert refused.headers["retry-after"] == "2"
        assert "no projector answers" in refused.json()["detail"]
    stopped = await lone_api.client.post(f"/v1/batches/{batch_id}/stop")
    assert stopped.status_code == 202


async def test_a_sequence_that_is_not_there_yet_is_an_answer_to_ask_again(api: Any) -> None:
    batch_id = await api.start()
    refused = await api.client.get(f"/v1/batches/{batch_id}?min_sequence=999999")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")


async def test_a_stop_ends_a_batch_without_any_generator(lone_api: Any) -> None:
    made = Script(batch_id="batch_1767225600_00000009", spec=example_spec(40, slice_size=4))
    made.start()
    for index in range(7):
        made.claim(index, node="dead")
        made.generate(index * 4 + 1)
    await lone_api.append(made.tape.entries)
    answer = await lone_api.client.post(f"/v1/batches/{made.batch_id}/stop")
    assert answer.status_code == 202
    await ended(lone_api, made.batch_id)
    batch = (await lone_api.client.get(f"/v1/batches/{made.batch_id}")).json()["batch"]
    assert batch["state"] == "stopped"
    assert batch["counts"]["generated"] == 7
    assert batch["counts"]["abandoned"] == 7 * 3
    assert batch["counts"]["pending"] == 40 - 28
    assert batch["anomalies"] == 0


async def test_the_openapi_document_tells_of_every_route(lone_api: Any) -> None:
    document = (await lone_api.client.get("/v1/openapi.json")).json()
    for path in ("/v1/batches", "/v1/batches:bulk", "/v1/stream", "/api/generate/batch/start"):
        assert path in document["paths"]
    assert document["paths"]["/v1/batches/{batch_id}"].keys() == {"get", "patch"}
    for command in ("stop", "pause", "resume", "retry-failed", "continue", "clone"):
        described = document["paths"][f"/v1/batches/{{batch_id}}/{command}"]["post"]
        headers = {item["name"] for item in described["parameters"] if item["in"] == "header"}
        assert headers == {"Idempotency-Key", "If-Match", "X-Reason"}
    assert "text/event-stream" in str(document["paths"]["/v1/stream"])
    assert "HTTPValidationError" not in str(document["paths"])


async def test_a_retry_completes_a_start_that_was_cut_off_after_its_key(lone_api: Any) -> None:
    keys = IdempotencyKeys(Bucket(lone_api.log.event_log.answers, subjects.IDEMPOTENCY_BUCKET))
    batch_id = "batch_1767225600_0000abcd"
    await keys.claim("cut off", StartBatch(target=5), batch_id)
    for status in (201, 200):
        answer = await lone_api.client.post(
            "/v1/batches", json={"target": 5}, headers={"Idempotency-Key": "cut off"}
        )
        assert (answer.status_code, answer.json()["batch"]["id"]) == (status, batch_id)
    assert len(await everything(lone_api.log.event_log)) == 1
