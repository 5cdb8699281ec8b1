"""The API and the document that describes it, compared by a program that nobody here wrote."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

CONFIG = """
[checks]
# That two fields exclude each other (at_seq and at_time) can't be said in such a document.
positive_data_acceptance.enabled = false
# A read model that has not come as far as was asked for says so with 503, and until when to wait.
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]

[[operations]]
include-path-regex = "^/api/"
# Pages of the original system may send 0 for false, as they always could.
checks.negative_data_rejection.enabled = false
"""


@pytest.mark.timeout(500)
async def test_schemathesis_finds_nothing(api: Any, tmp_path: Path) -> None:
    await api.start(target=4)
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    words = ["--config-file", str(config), "run", f"{api.url}/v1/openapi.json"]
    words += ["--seed", "1", "--max-examples", "5", "--workers", "2", "--request-timeout", "30"]
    words += ["--phases", "coverage,fuzzing", "--exclude-path-regex", "/stream$", "--no-color"]
    program = Path(sys.executable).with_name("schemathesis")
    process = await asyncio.create_subprocess_exec(
        program, *words, cwd=tmp_path, stdout=asyncio.subprocess.PIPE
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    text = said.decode()
    assert process.returncode == 0, text[-20_000:]
    assert "Unresolvable references" not in text
    paths = json.loads((await api.client.get("/v1/openapi.json")).content)["paths"]
    operations = sum(len(item) for item in paths.values()) - 2
    assert f"Tested: {operations}" in text, text


@pytest.mark.parametrize(
    "path",
    [
        "/v1/batches?started_after=0.5",
        "/v1/batches?started_before=1767225600",
        "/v1/statistics/timeline?end=1e9",
        "/v1/batches?started_after=0001-01-01T00:00:00%2B14:00",
        "/v1/batches?started_before=9999-12-31T23:59:59-14:00",
        "/v1/statistics/timeline?start=0001-01-01T00:00:00%2B00:01",
    ],
)
async def test_a_number_or_a_year_beyond_the_calendar_is_no_time(lone_api: Any, path: str) -> None:
    answer = await lone_api.client.get(path)
    assert answer.status_code == 400, answer.text
    problem = answer.json()
    assert "give a time with its offset" in problem["detail"]
    assert problem["errors"][0]["field"] == path.partition("?")[2].partition("=")[0]


async def test_a_number_is_neither_true_nor_false(lone_api: Any) -> None:
    for value in (0, 1, "yes", "false"):
        answer = await lone_api.client.post("/v1/batches", json={"target": 1, "smart_mode": value})
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["field"] == "smart_mode"
    budgets = {"max_cost_usd": True}
    answer = await lone_api.client.post("/v1/batches", json={"target": 1, "budgets": budgets})
    assert answer.status_code == 422, answer.text


LONGEST = {
    "recipe": 64,
    "model": 200,
    "provider": 64,
    "topic": 320,
    "difficulty": 64,
    "sample_type": 64,
}


@pytest.mark.parametrize("field", LONGEST)
async def test_the_original_start_refuses_a_long_word_as_its_own(lone_api: Any, field: str) -> None:
    body = {"target_count": 1, field: "x" * (LONGEST[field] + 1)}
    answer = await lone_api.client.post("/api/generate/batch/start", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"].startswith(f"{field}='xxx")
