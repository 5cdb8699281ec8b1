"""The seed's contract under /api, as its page uses it."""

import asyncio
import json
import re
from datetime import datetime
from typing import Any

import pytest

from millstream.cli.sse import Parser
from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.histories import ERROR, FINDING
from millstream.testing.waiting import BOUND_S

pytestmark = pytest.mark.anyio

SMART_START = {
    "target_count": 10,
    "provider": "auto",
    "model": None,
    "sample_type": "balance",
    "smart_mode": True,
}


def script(number: int, **fields: Any) -> Script:
    spec = example_spec(6, slice_size=2, **fields)
    return Script(batch_id=f"batch_{1767225600 + number}_{number:08x}", spec=spec)


async def history(api: Any) -> list[dict[str, Any]]:
    body = (await api.client.get("/api/generate/batch/history")).json()
    assert body["success"] is True
    assert body["count"] == len(body["batches"])
    rows: list[dict[str, Any]] = body["batches"]
    return rows


@pytest.mark.parametrize("nothing", [None, ""])
async def test_a_start_without_a_model_takes_the_default_one(api: Any, nothing: str | None) -> None:
    form = {**SMART_START, "model": nothing, "provider": nothing}
    body = (await api.client.post("/api/generate/batch/start", json=form)).json()
    assert (body["success"], body["model"]) == (True, "simulated/fast")


async def test_start_asks_for_a_total_and_makes_what_is_missing(api: Any) -> None:
    made = script(1)
    await api.append(made.run().tape.entries)
    body = (await api.client.post("/api/generate/batch/start", json=SMART_START)).json()
    assert body["success"] is True
    assert re.fullmatch(r"batch_\d{9,11}_[0-9a-f]{8}", body["batch_id"])
    assert (body["provider"], body["model"]) == ("simulated", "simulated/fast")
    assert body["smart_mode"] is True
    row = (await history(api))[0]
    assert (row["id"], row["target"]) == (body["batch_id"], 4)
    reached = await api.client.post(
        "/api/generate/batch/start", json={**SMART_START, "target_count": 6}
    )
    assert reached.status_code == 400
    assert reached.json() == {
        "success": False,
        "error": "target_count=6 is reached: the dataset has 6 samples already; give more than 6",
    }


async def test_a_start_by_hand_takes_topic_difficulty_type_and_words(api: Any) -> None:
    topics = (await api.client.get("/api/topics")).json()["topics"]
    topic = f"{topics[0]['practice_area']} - {topics[0]['topic']}"
    types = (await api.client.get("/api/sample-types")).json()
    assert types["success"] is True
    assert types["default"] == "balance"
    form = {
        "target_count": 3,
        "provider": "simulated",
        "model": "simulated/slow",
        "sample_type": types["sample_types"][0]["id"],
        "smart_mode": False,
        "topic": topic,
        "difficulty": "basic",
        "reasoning_instruction": "Think aloud",
    }
    body = (await api.client.post("/api/generate/batch/start", json=form)).json()
    assert body["success"] is True, body
    row = (await history(api))[0]
    assert row["topic_filter"] == topic
    assert row["difficulty_filter"] == "basic"
    assert row["reasoning_instruction"] == "Think aloud"
    assert row["model"] == "simulated/slow"


async def test_history_says_running_completed_or_stopped_and_lists_errors(api: Any) -> None:
    done, stopped, failed, paused = script(1), script(2), script(3), script(4)
    done.run(failed=[2])
    stopped.start()
    stopped.stop()
    failed.start()
    failed.request_stop(error=ERROR)
    failed.end_stop()
    paused.start()
    paused.pause()
    for made in (done, stopped, failed, paused):
        await api.append(made.tape.entries)
    rows = {row["id"]: row for row in await history(api)}
    assert list(rows) == [made.batch_id for made in (paused, failed, stopped, done)]
    assert [row["status"] for row in rows.values()] == [
        "running",
        "stopped",
        "stopped",
        "completed",
    ]
    assert rows[failed.batch_id]["errors"][0]["error"] == "key refused"
    row = rows[done.batch_id]
    assert (row["target"], row["samples_generated"], row["tokens_used"]) == (6, 5, 160)
    assert row["errors"][0]["error"] == "HTTP 500"
    assert datetime.fromisoformat(row["started_at"]).tzinfo is not None
    assert datetime.fromisoformat(row["completed_at"]) >= datetime.fromisoformat(row["started_at"])
    assert rows[paused.batch_id]["completed_at"] is None
    limited = (await api.client.get("/api/generate/batch/history?limit=2")).json()
    assert [row["id"] for row in limited["batches"]] == [paused.batch_id, failed.batch_id]


async def test_status_tells_of_live_batches_or_of_the_one_asked_for(api: Any) -> None:
    done, living = script(1), script(2)
    done.run()
    living.start()
    living.claim(0)
    living.generate(0)
    for made in (done, living):
        await api.append(made.tape.entries)
    body = (await api.client.get("/api/generate/batch/status")).json()
    assert (body["count"], list(body["batches"])) == (1, [living.batch_id])
    state = body["batches"][living.batch_id]
    assert (state["running"], state["samples_generated"], state["total"]) == (True, 1, 6)
    one = (await api.client.get(f"/api/generate/batch/status?batch_id={done.batch_id}")).json()
    assert one["batches"][done.batch_id]["running"] is False
    unknown = await api.client.get("/api/generate/batch/status?batch_id=batch_1_2")
    assert (unknown.status_code, unknown.json()["success"]) == (404, False)


async def test_stop_takes_one_batch_or_all(api: Any) -> None:
    ids = [await api.start() for _ in range(3)]
    one = await api.client.post("/api/generate/batch/stop", json={"batch_id": ids[0]})
    assert (one.status_code, one.json()["success"]) == (200, True)
    assert (await status_of(api, ids[0])) == "stopped"
    everything = (await api.client.post("/api/generate/batch/stop", json={})).json()
    assert everything["success"] is True
    assert set(everything["stopped"]) >= set(ids[1:])
    for batch_id in ids[1:]:
        assert (await status_of(api, batch_id)) == "stopped"
    nothing = (await api.client.post("/api/generate/batch/stop", json={})).json()
    assert nothing == {"success": True, "stopped": [], "message": "No batch was running"}


async def status_of(api: Any, batch_id: str) -> str:
    """Return the batch's word in the history once it is not running any more."""
    async with asyncio.timeout(BOUND_S):
        while True:
            word = {row["id"]: row["status"] for row in await history(api)}[batch_id]
            if word != "running":
                return str(word)
            await asyncio.sleep(0.02)


async def test_stuck_is_a_pure_read_that_every_client_sees(api: Any) -> None:
    made = script(1)
    made.start()
    made.claim(0)
    made.detect_stuck(FINDING)
    await api.append(made.tape.entries)
    for _ in range(2):
        body = (await api.client.get("/api/batches/stuck")).json()
        assert body["success"] is True
        assert (body["count"], body["stopped_count"], body["stopped_batches"]) == (1, 0, [])
        (item,) = body["stuck_batches"]
        assert item["batch_id"] == made.batch_id
        assert item["model"] == "simulated/fast"
        assert (item["samples_generated"], item["target"]) == (0, 6)
        assert item["elapsed_minutes"] >= 0


async def test_samples_and_quality_have_every_field_that_the_page_reads(api: Any) -> None:
    made = script(1)
    made.run()
    await api.append(made.tape.entries)
    await history(api)
    body = (await api.client.get(f"/api/batch/{made.batch_id}/samples")).json()
    assert body["success"] is True
    assert len(body["samples"]) == 6
    assert set(body["samples"][0]) >= {
        *("id", "question", "answer", "topic", "difficulty", "case_citation", "reasoning"),
        *("jurisdiction", "batch_id", "sample_type", "created_at", "updated_at"),
    }
    assert body["samples"][0]["question"] == "What is 0?"
    report = (await api.client.get(f"/api/batch/{made.batch_id}/quality")).json()
    assert report["success"] is True
    assert report["metrics"]["total_samples"] == 6
    assert set(report["metrics"]) == {
        *("total_samples", "total_tokens", "avg_tokens_per_sample", "avg_answer_length"),
        *("avg_reasoning_length", "avg_citation_length"),
    }
    assert set(report["distributions"]) == {"difficulty", "topics", "sample_types", "jurisdictions"}
    assert report["quality_score"] == {"rating": "Good", "issues": []}
    started = await api.start()
    for path in (f"/api/batch/{started}/samples", "/api/batch/batch_1111111111_00000000/quality"):
        missing = await api.client.get(path)
        assert (missing.status_code, missing.json()["success"]) == (404, False)


async def test_the_lists_have_every_field_that_the_page_reads(api: Any) -> None:
    providers = (await api.client.get("/api/providers")).json()
    assert providers["success"] is True
    assert providers["default_provider"] == "simulated"
    assert set(providers["providers"][0]) >= {"id", "name", "requests_per_minute", "enabled"}
    models = (await api.client.get("/api/models")).json()
    assert (models["default_provider"], models["default_model"]) == ("simulated", "simulated/fast")
    served = [item["provider"] for item in models["models"] if item["id"] == "gpt-oss-120b"]
    assert served == ["groq", "cerebras", "together_ai"]
    assert set(models["models"][0]) >= {"id", "provider", "context_window"}
    stats = (await api.client.get("/api/stats")).json()
    assert "success" not in stats
    assert (stats["total"], stats["difficulty_distribution"], stats["top_topics"]) == (0, [], [])
    health = await api.client.get("/api/health")
    assert (health.status_code, health.json()["status"]) == (200, "healthy")


async def test_stats_count_the_dataset(api: Any) -> None:
    made = script(1)
    made.run()
    await api.append(made.tape.entries)
    await history(api)
    stats = (await api.client.get("/api/stats")).json()
    assert stats["total"] == 6
    assert sum(item["count"] for item in stats["difficulty_distribution"]) == 6
    assert {"topic", "count"} == set(stats["top_topics"][0])
    assert all(isinstance(length, str) for length in stats["avg_lengths"].values())


async def test_the_stream_sends_live_batches_then_every_change_unnamed(api: Any) -> None:
    ended, living = script(1), script(2)
    await api.append(ended.run().tape.entries)
    living.start()
    await api.append(living.tape.entries)
    messages: list[dict[str, Any]] = []
    parser = Parser()
    async with api.client.stream("GET", "/api/generate/batch/stream") as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        async for chunk in answer.aiter_raw():
            for event in parser.feed(chunk):
                assert event.name == "message"
                assert re.fullmatch(r"\d+-[0-9a-f]{8}", event.last_id)
                messages.append(json.loads(event.data))
            if len(messages) == 1:
                begun = len(living.tape.entries)
                living.claim(0)
                await api.append(living.tape.entries[begun:])
            if messages[-1:] and messages[-1]["type"] == "batch_update":
                break
    assert messages[0]["type"] == "all_batches"
    assert set(messages[0]["batches"]) == {living.batch_id}
    assert messages[-1]["batch_id"] == living.batch_id
    assert messages[-1]["batch"]["running"] is True
    assert set(messages[-1]["batch"]) >= {"samples_generated", "total", "total_tokens", "errors"}
