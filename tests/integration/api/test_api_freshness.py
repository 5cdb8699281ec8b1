"""Polling that costs little, and requests that ask too much."""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from millstream.testing.waiting import BOUND_S
from millstream_api.limits import WriteRate
from millstream_api.problems import ProblemError

pytestmark = pytest.mark.anyio

DOCS = Path(__file__).parents[3] / "docs"


async def test_a_read_whose_answer_is_known_costs_a_hundred_bytes(api: Any) -> None:
    batch_id = await api.start(model="simulated/fast")
    await api.client.post(f"/v1/batches/{batch_id}/stop", json={})
    async with asyncio.timeout(BOUND_S):
        while True:
            answer = (await api.client.get(f"/v1/batches/{batch_id}")).json()
            if answer["batch"]["state"] == "stopped":
                break
            await asyncio.sleep(0.01)
    place = f"min_sequence={answer['as_of']}"
    paths = ["/v1/batches", f"/v1/batches/{batch_id}", "/v1/statistics", "/v1/stuck"]
    for path in paths:
        first = await api.client.get(f"{path}?{place}")
        while True:  # an event of no batch may still come
            known = {"If-None-Match": first.headers["etag"]}
            again = await api.client.get(f"{path}?{place}", headers=known)
            if again.status_code == 304:
                break
            assert again.status_code == 200, again.text
            first = again
        assert again.content == b""
        head = sum(len(name) + len(value) + 4 for name, value in again.headers.raw)
        assert head + len("HTTP/1.1 304 Not Modified\r\n\r\n") < 150
        assert "content-security-policy" in first.headers
    version = (await api.client.get(paths[1])).headers["etag"]
    repeated = await api.client.post(
        f"/v1/batches/{batch_id}/stop", json={}, headers={"If-Match": version}
    )
    assert repeated.status_code == 200  # the tag of a read is what If-Match takes
    started = await api.start(model="simulated/fast")
    changed = await api.client.get(f"/v1/batches/{started}", headers={"If-None-Match": version})
    assert changed.status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/events", "/events?kind=note", "/figures", "/samples", "/quality", "/slots/0", "/card"],
)
async def test_a_batch_that_was_just_acknowledged_is_known_to_every_read(
    api: Any, path: str
) -> None:
    for _ in range(3):
        batch_id = await api.start(model="simulated/fast")
        found = await api.client.get(f"/v1/batches/{batch_id}{path}")
        assert found.status_code == 200, found.text
    unknown = await api.client.get(f"/v1/batches/batch_1767225600_00000abc{path}")
    assert unknown.status_code == 404


async def send_without_end(writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(BOUND_S):
        while True:
            writer.write(b"x" * 8192)
            await writer.drain()
            await asyncio.sleep(0)


async def test_heads_that_are_too_large_are_refused(lone_api: Any) -> None:
    answer = await lone_api.client.get("/v1/stuck", headers={"X-Much": "x" * 40_000})
    assert answer.status_code == 431
    url = httpx.URL(lone_api.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"GET /v1/stuck?x=%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"y" * 50_000))
    assert (await reader.read(12)) == b"HTTP/1.1 414"
    writer.close()
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Endless: ")
    with pytest.raises(ConnectionError):
        await send_without_end(writer)
    writer.close()


@pytest.mark.parametrize("path", ["/v1/stuck", "/v1/stream", "/"])
async def test_a_foreign_name_of_this_machine_reads_nothing(lone_api: Any, path: str) -> None:
    answer = await lone_api.client.get(path, headers={"Host": "evil.example:5001"})
    assert answer.status_code == 403
    assert "evil.example" in answer.json()["detail"]
    assert (await lone_api.client.get("/healthz", headers={"Host": "x.example"})).is_success


async def test_a_client_that_writes_without_end_is_slowed_and_no_other_one() -> None:
    now = 0.0
    rate = WriteRate(per_s=10, at_once=20, steady=lambda: now)
    for _ in range(20):
        rate.check("one")
    with pytest.raises(ProblemError, match="wait a second") as refused:
        rate.check("one")
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})
    rate.check("other")
    now = 0.5
    for _ in range(5):
        rate.check("one")
    with pytest.raises(ProblemError):
        rate.check("one")


async def test_the_metrics_are_those_of_the_documents(lone_api: Any) -> None:
    batch_id = await lone_api.start(model="simulated/fast")
    async with lone_api.client.stream("GET", f"/v1/stream?batch_id={batch_id}") as stream:
        await anext(stream.aiter_raw())
        answer = await lone_api.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    told = set(re.findall(r"^# TYPE (\S+)", answer.text, re.MULTILINE))
    page = (DOCS / "operations.md").read_text(encoding="utf-8")
    of_api = page.partition("### Metrics")[2].partition("A generator or a projector")[0]
    assert told == set(re.findall(r"^\| `(millstream_[a-z_]+)", of_api, re.MULTILINE))
    assert 'millstream_stream_clients{flavour="named"} 1.0' in answer.text
    assert 'millstream_live_batches{state="queued"} 1.0' in answer.text
    assert 'millstream_http_answers_total{status="2xx"}' in answer.text
