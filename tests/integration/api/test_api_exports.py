"""/v1/…/export over real HTTP: files as they come, pins, and what is refused."""

import asyncio
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import duckdb
import pytest

from millstream.testing.events import Script
from millstream.testing.examples import example_spec
from millstream.testing.waiting import BOUND_S

pytestmark = pytest.mark.anyio

MISSING = "batch_1767225600_0000dead"


def finished(samples: int) -> Script:
    script = Script(spec=example_spec(samples, slice_size=64))
    script.start()
    script.claim(0)
    for slot in range(samples):
        script.generate(slot)
    script.complete()
    return script


async def test_a_batch_is_streamed_in_every_format(api: Any, tmp_path: Path) -> None:
    script = finished(12)
    last = await api.append(script.tape.entries)
    url = f"/v1/batches/{script.batch_id}"
    lines = await api.client.get(f"{url}/export?format=jsonl&min_sequence={last}")
    assert lines.headers["content-type"] == "application/x-ndjson"
    assert "content-length" not in lines.headers
    assert (lines.headers["millstream-as-of"], lines.headers["millstream-total"]) == (
        str(last), "12",
    )  # fmt: skip
    found = [json.loads(line) for line in lines.text.splitlines()]
    assert [row["provenance"]["slot"] for row in found] == list(range(12))
    pin = found[4]["provenance"]["sequence"]
    answer = await api.client.get(f"{url}/export?at_seq={pin}&since={pin - 2}")
    (tmp_path / "x.parquet").write_bytes(answer.content)
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT question, provenance.sequence FROM '{tmp_path}/x.parquet'"  # noqa: S608
        ).fetchall()
    assert rows == [(row["question"], row["provenance"]["sequence"]) for row in found[3:5]]
    folder = await api.client.get(f"/v1/datasets/{script.batch_id}/export?format=hf")
    with tarfile.open(fileobj=io.BytesIO(folder.content)) as members:
        assert members.getnames() == [
            "data/train-00000-of-00001.parquet", "card.json", "README.md",
        ]  # fmt: skip
        content = members.extractfile("card.json")
        assert content is not None
        in_folder = json.loads(content.read())
    card = (await api.client.get(f"{url}/card")).json()
    assert card == in_folder
    assert (card["samples"], card["batches"][0]["outcome"]) == (12, "batch.completed.v1")


async def test_an_export_as_of_a_time_is_that_of_the_last_event_stored_by_then(api: Any) -> None:
    script = finished(4)
    last = await api.append(script.tape.entries)
    url = f"/v1/batches/{script.batch_id}"
    page = await api.client.get(f"{url}/events?limit=1000&min_sequence={last}")
    stored = [(one["sequence"], one["stored_at"]) for one in page.json()["events"]]
    time = stored[len(stored) // 2][1]
    pin = max(sequence for sequence, stored_at in stored if stored_at <= time)
    for path in (f"{url}/export", f"/v1/datasets/{script.batch_id}/export"):
        then = await api.client.get(path, params={"format": "jsonl", "at_time": time})
        assert then.headers["millstream-as-of"] == str(pin)
        same = await api.client.get(path, params={"format": "jsonl", "at_seq": pin})
        assert (then.content, then.status_code) == (same.content, 200)
    card = await api.client.get(f"{url}/card", params={"at_time": time})
    assert card.json()["at_seq"] == pin


async def test_what_can_not_be_exported_is_told_with_a_status(api: Any) -> None:
    await api.append(finished(3).tape.entries)
    for path, status, said in (
        (f"batches/{MISSING}/export", 404, "is of no batch"),
        (f"datasets/{MISSING}/card", 404, "is of no batch"),
        ("batches/x.*/export", 404, "does not exist"),
        (f"batches/{MISSING}/export?format=xls", 400, "format"),
        (f"batches/{MISSING}/export?at_seq=-1", 400, "at_seq"),
        (f"batches/{MISSING}/export?at_time=now", 400, "no time with an offset"),
        (f"batches/{MISSING}/card?at_seq=1&at_time=2026-01-01T00:00:00Z", 400, "leave one of"),
        (f"batches/{MISSING}/export?at_time=2026-01-01T00:00:00Z", 404, "is of no batch"),
        (
            f"batches/{MISSING}/export?at_seq=99999999",
            400,
            "lies beyond the log's end, which is at",
        ),
        (f"datasets/{MISSING}/card?at_seq=99999999", 400, "at_seq=99999999 lies beyond"),
        (f"batches/{MISSING}/export?min_sequence=99999999", 503, "99999999 is not folded yet"),
    ):
        answer = await api.client.get(f"/v1/{path}")
        assert (answer.status_code, said in answer.json()["detail"]) == (status, True), path


async def test_a_client_that_leaves_ends_its_export(api: Any) -> None:
    script = finished(3)
    last = await api.append(script.tape.entries)
    path = f"/v1/batches/{script.batch_id}/export?min_sequence={last}"
    copies = Path(api.log.settings.data_dir) / "copies"
    async with api.client.stream("GET", path) as answer:
        assert answer.status_code == 200
        assert list(copies.glob("job-*"))
    async with asyncio.timeout(BOUND_S):
        while list(copies.glob("job-*")):
            await asyncio.sleep(0.05)
