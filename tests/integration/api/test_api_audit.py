"""/v1/audit over real HTTP: sealed roots, digests and the raw events."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from millstream.eventlog.archive import check_export
from millstream.eventlog.chain import ChainState, extend
from millstream.testing.events import Script
from millstream.testing.nats import everything
from millstream.testing.waiting import BOUND_S
from millstream_projector.audit import sealer

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealer, "AGE_MOST_S", 0.0)


async def test_roots_digests_and_events_tell_of_one_log(api: Any, tmp_path: Path) -> None:
    script = Script().run()
    last = await api.append(script.tape.entries)
    stored = await everything(api.log.event_log)
    root = extend(ChainState(), stored).root.hex()
    digests = (await api.client.get(f"/v1/audit/digests?min_sequence={last}")).json()
    assert (digests["root"], digests["as_of"], digests["alarm"]) == (root, last, None)
    assert digests["tables"]["samples"]["rows"] == script.state.counts.generated
    async with asyncio.timeout(BOUND_S):
        while True:
            page = (await api.client.get("/v1/audit/checkpoints")).json()
            found = page["checkpoints"]
            if found and found[-1]["checkpoint"]["to_sequence"] == last:
                break
            await asyncio.sleep(0.05)
    assert found[-1]["checkpoint"]["root"] == root
    assert (page["next_cursor"], page["alarm"]) == (None, None)
    later = await api.client.get(f"/v1/audit/checkpoints?cursor={found[-1]['sequence']}")
    assert later.json()["checkpoints"] == []
    answer = await api.client.get("/v1/audit/export")
    assert answer.headers["content-type"] == "application/x-ndjson"
    (tmp_path / "whole.jsonl").write_bytes(answer.content)
    assert check_export(tmp_path / "whole.jsonl").root == root
    answer = await api.client.get(f"/v1/audit/export?batch_id={script.batch_id}")
    (tmp_path / "batch.jsonl").write_bytes(answer.content)
    assert check_export(tmp_path / "batch.jsonl").batch_id == script.batch_id


async def test_an_export_as_of_a_sequence_has_the_same_bytes_again(
    api: Any,
) -> None:
    script = Script()
    script.start()
    script.claim(0)
    script.generate(0)
    await api.append(script.tape.entries)
    address = f"/v1/audit/export?batch_id={script.batch_id}&at_seq=3"
    first = (await api.client.get(address)).content
    script.generate(1)
    await api.append(script.tape.entries[3:])
    assert (await api.client.get(address)).content == first
    assert len(first.splitlines()) == 4
    beyond = await api.client.get("/v1/audit/export?at_seq=999")
    assert beyond.status_code == 422
    assert "at_seq=999 lies beyond the log's end, which is at 4" in beyond.json()["detail"]
    other = await api.start()
    before = await api.client.get(f"/v1/audit/export?batch_id={other}&at_seq=4")
    assert before.status_code == 422
    assert f"at_seq=4 lies before the first event of batch {other}" in before.json()["detail"]


NOBODY = "batch_1700000000_0a1b2c3d"


async def test_an_export_of_a_batch_that_never_was_is_no_empty_file(api: Any) -> None:
    await api.start()
    for moment in ("", "&at_seq=1"):
        answer = await api.client.get(f"/v1/audit/export?batch_id={NOBODY}{moment}")
        assert answer.status_code == 404
        assert f"batch_id={NOBODY!r} is of no batch in the log" in answer.json()["detail"]


async def test_bad_questions_name_what_is_wrong(api: Any) -> None:
    for path in ("checkpoints?limit=0", "checkpoints?cursor=x", "export?batch_id=a.b"):
        answer = await api.client.get(f"/v1/audit/{path}")
        assert 400 <= answer.status_code < 500, path
        assert answer.headers["content-type"] == "application/problem+json"


async def test_without_a_projector_the_events_are_there_still(lone_api: Any) -> None:
    answer = await lone_api.client.get("/v1/audit/checkpoints")
    assert answer.status_code == 503
    answer = await lone_api.client.get("/v1/audit/export")
    assert answer.status_code == 200
    assert b'"count":0' in answer.content
