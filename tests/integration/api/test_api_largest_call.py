"""The smallest budget that is enough can be asked for before a start is refused for it."""

from typing import Any

import pytest

pytestmark = pytest.mark.anyio

PATH = "/v1/recipes/legal-qa/largest-call"
START = {"target": 3, "model": "simulated/fast", "recipe": "legal-qa"}


async def test_the_largest_call_is_the_smallest_budget_that_is_taken(lone_api: Any) -> None:
    asked = {"model": "simulated/fast", "difficulty": "basic", "instruction": "Be brief."}
    answer = await lone_api.client.get(PATH, params=asked)
    assert answer.status_code == 200, answer.text
    tokens = answer.json()["tokens"]
    for given, status in ((tokens - 1, 422), (tokens, 201)):
        body = START | asked | {"budgets": {"max_tokens": given}}
        started = await lone_api.client.post("/v1/batches", json=body)
        assert started.status_code == status, started.text
    longer = await lone_api.client.get(PATH, params=asked | {"instruction": "Be brief. " * 50})
    assert longer.json()["tokens"] > tokens


async def test_what_can_not_be_started_has_no_largest_call(lone_api: Any) -> None:
    for path, asked, words in (
        (PATH, {"topic": "Cooking"}, "Cooking"),
        (PATH, {"model": "nobody/knows"}, "nobody"),
        ("/v1/recipes/none/largest-call", {}, "none"),
    ):
        answer = await lone_api.client.get(path, params=asked)
        assert answer.status_code == 422, answer.text
        assert words in answer.json()["detail"]
