"""Every bad request gets an answer that names field, value and remedy; none is a 5xx."""

import json
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

START = "/v1/batches"
SEED_START = "/api/generate/batch/start"
SEED_STOP = "/api/generate/batch/stop"
UNKNOWN = "batch_1111111111_00000000"

STARTS: list[tuple[dict[str, Any], str, str]] = [
    ({"target": 0}, "target", "target=0 is not valid: give a whole number from 1 to 1,000,000"),
    ({"target": -5}, "target", "target=-5"),
    ({"target": 1_000_001}, "target", "from 1 to 1,000,000"),
    ({"target": "ten"}, "target", "target='ten'"),
    ({"target": "10"}, "target", "give a whole number"),
    ({"target": 1.5}, "target", "give a whole number"),
    ({"target": True}, "target", "give a whole number"),
    ({"target": None}, "target", "give a whole number"),
    ({"target": [1]}, "target", "give a whole number"),
    ({"target": 10**30}, "target", "give a whole number"),
    ({}, "target", "target is missing"),
    ({"target": 1, "tarrget": 2}, "tarrget", "no such field here"),
    ({"target": 1, "model": "no-such-model"}, "model", "'no-such-model' is unknown"),
    ({"target": 1, "model": "simulated/fsat"}, "model", "did you mean 'simulated/fast'"),
    ({"target": 1, "model": "gpt-oss-120b"}, "model", "set GROQ_API_KEY or CEREBRAS_API_KEY"),
    ({"target": 1, "model": "nobody/x"}, "model", "unknown provider 'nobody'"),
    ({"target": 1, "model": "x" * 500}, "model", "at most 200"),
    *(({"target": 1, name: ""}, name, "'' names nothing") for name in ("model", "provider")),
    ({"target": 1, "provider": "nobody"}, "provider", "'nobody' is unknown"),
    ({"target": 1, "recipe": "no-such"}, "recipe", "does not exist"),
    ({"target": 1, "recipe": "../../etc/passwd"}, "recipe", "does not exist"),
    ({"target": 1, "topic": "Cooking - Soup"}, "topic", "is not one of the recipe's"),
    ({"target": 1, "difficulty": "impossible"}, "difficulty", "is not one of the recipe's"),
    ({"target": 1, "sample_type": "poem"}, "sample_type", "is not one of the recipe's"),
    ({"target": 1, "concurrency": 0}, "concurrency", "concurrency=0"),
    ({"target": 1, "priority": "urgent"}, "priority", "'high', 'normal' or 'low'"),
    ({"target": 1, "instruction": "a\x00b"}, "instruction", "NUL character"),
    ({"target": 1, "instruction": "y" * 5000}, "instruction", "at most 4000"),
    ({"target": 1, "topic": "\ud800"}, "topic", "topic"),
]


async def test_a_start_that_can_not_be_is_refused_in_words(lone_api: Any) -> None:
    for body, field, words in STARTS:
        answer = await lone_api.client.post(
            START, content=json.dumps(body), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 422, (body, answer.text)
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(problem) >= {"type", "title", "status", "detail", "errors"}
        assert problem["errors"][0]["field"] == field, problem
        assert words in problem["detail"], problem
        assert len(answer.text) < 8000
    assert (await lone_api.log.event_log.head()).last == 0


KINDS = [
    (b"", "the body is missing"),
    (b"{", "the body is not JSON"),
    (b"[]", "the body is a list, no object"),
    (b'"x"', "the body is a text, no object"),
    (b"5", "the body is a number, no object"),
    (b"false", "the body is true or false, no object"),
]


async def test_json_that_is_no_object_is_called_what_it_is(lone_api: Any) -> None:
    batch_id = await lone_api.start()
    for content, words in KINDS:
        paths = [START, "/v1/batches:bulk"]
        if content:  # a command of one batch needs none
            paths += [f"/v1/batches/{batch_id}/{name}" for name in ("stop", "continue", "clone")]
        for path in paths:
            answer = await lone_api.client.post(
                path, content=content, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == 400, (path, content)
            assert answer.json()["detail"].startswith(f"{words}: send one JSON object")


async def test_values_are_shown_as_they_were_sent(lone_api: Any) -> None:
    for value, words in (
        (True, "target=true is"),
        (None, "target=null is"),
        ([1, None], "target=[1, null] is"),
        ({"a": "b"}, 'target={"a": "b"} is'),
        ("it's", 'target="it\'s" is'),
        (1.5, "target=1.5 is"),
    ):
        answer = await lone_api.client.post(START, json={"target": value})
        assert words in answer.json()["detail"]
    budgets = {"max_cost_usd": "cheap", "max_tokens": 0, "max_failure_ratio": 2, "max_calls": 1}
    answer = await lone_api.client.post(START, json={"target": 1, "budgets": budgets})
    found = {item["field"]: item["message"] for item in answer.json()["errors"]}
    assert found == {
        "budgets.max_cost_usd": "budgets.max_cost_usd='cheap' is not valid: give a number "
        "without quotes",
        "budgets.max_tokens": "budgets.max_tokens=0 is not valid: input should be greater than or "
        "equal to 1",
        "budgets.max_failure_ratio": "budgets.max_failure_ratio=2 is not valid: input should be "
        "less than or equal to 1",
        "budgets.max_calls": "budgets.max_calls: no such field here: correct its name or leave it "
        "out",
    }


BODIES = [b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"target=10", b"[" * 100_000, b"\x00"]


async def test_a_body_that_is_no_json_object_is_refused_on_every_route(lone_api: Any) -> None:
    for path in (START, "/v1/batches:bulk", SEED_START, SEED_STOP):
        for content in BODIES:
            for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
                answer = await lone_api.client.post(
                    path, content=content, headers={"Content-Type": kind}
                )
                assert answer.status_code == 400, (path, content[:20], kind, answer.text)
                assert "JSON object" in answer.text
                if path.startswith("/api/"):
                    assert answer.json()["success"] is False


SEED_STARTS: list[tuple[dict[str, Any], str]] = [
    ({}, "target_count is missing"),
    ({"target_count": "many"}, "target_count='many'"),
    ({"target_count": 0}, "target_count=0"),
    ({"target_count": -3}, "target_count=-3"),
    ({"target_count": None}, "target_count"),
    ({"target_count": 2_000_000}, "at most 1,000,000"),
    ({"target_count": 10**40}, "target_count"),
    ({"target_count": 5, "provider": "nobody"}, "provider 'nobody' is unknown"),
    ({"target_count": 5, "model": "nothing"}, "model 'nothing' is unknown"),
    ({"target_count": 5, "topic": "Nowhere - Nothing"}, "topic 'Nowhere - Nothing'"),
    ({"target_count": 5, "difficulty": "absurd"}, "difficulty 'absurd'"),
    ({"target_count": 5, "sample_type": "poem"}, "sample_type 'poem'"),
    ({"target_count": 5, "recipe": "none"}, "recipe 'none' does not exist"),
]


async def test_the_seed_start_says_what_is_wrong_in_one_sentence(api: Any) -> None:
    for body, words in SEED_STARTS:
        answer = await api.client.post(SEED_START, json=body)
        assert answer.status_code == 400, (body, answer.text)
        assert set(answer.json()) == {"success", "error"}
        assert words in answer.json()["error"], (body, answer.text)
    assert (await api.log.event_log.head()).last == 0


async def test_a_stop_of_nothing_is_refused_and_never_stops_all(lone_api: Any) -> None:
    batch_id = await lone_api.start()
    for body in (
        {"batch_id": None},
        {"batch_id": ""},
        {"batch_id": 5},
        {"batch_id": "*"},
        {"batch_id": UNKNOWN},
        {"batch_id": ">"},
    ):
        answer = await lone_api.client.post(SEED_STOP, json=body)
        assert 400 <= answer.status_code < 500, (body, answer.text)
        assert answer.json()["success"] is False
    state = (await lone_api.client.get(f"/v1/batches/{batch_id}")).json()["batch"]["state"]
    assert state == "queued"


@pytest.mark.parametrize(
    "batch_id", [UNKNOWN, "x", "*", ">", "mill.events", "batch_1_2", "%2e%2e", "a" * 3000, "%00"]
)
async def test_an_unknown_batch_is_a_404_everywhere(lone_api: Any, batch_id: str) -> None:
    for method, path in (
        ("GET", f"/v1/batches/{batch_id}"),
        ("POST", f"/v1/batches/{batch_id}/stop"),
        ("POST", f"/v1/batches/{batch_id}/pause"),
        ("GET", f"/api/generate/batch/status?batch_id={batch_id}"),
    ):
        if batch_id == UNKNOWN and method == "GET":
            continue  # only a projector knows that there is none
        answer = await lone_api.client.request(method, path)
        assert answer.status_code == 404, (method, path, answer.text)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/batches?limit=0", "limit"),
        ("/v1/batches?limit=x", "limit"),
        ("/v1/batches?limit=100000", "limit"),
        ("/v1/batches?state=walking", "state.0"),
        ("/v1/batches?min_sequence=-1", "min_sequence"),
        ("/v1/batches?min_sequence=99999999999999999999999", "min_sequence"),
        (f"/v1/batches/{UNKNOWN}/events?after=-1", "after"),
    ],
)
async def test_a_query_that_can_not_be_is_refused_by_its_field(
    lone_api: Any, path: str, field: str
) -> None:
    answer = await lone_api.client.get(path)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    ("path", "field", "words"),
    [
        ("/v1/batches?stat=running", "stat", "; did you mean 'state'?"),
        ("/v1/batches?limit=1&State=running&cursor=", "State", "; did you mean 'state'?"),
        ("/v1/nodes?at_seq=10", "at_seq", "this route takes none"),
        ("/v1/samples?at-seq=10", "at-seq", "; did you mean 'at_seq'?"),
        (
            "/v1/samples?since=10",
            "since",
            "use one of: at_seq, at_time, cursor, difficulty, facets",
        ),
        (f"/v1/batches/{UNKNOWN}?att_time=x", "att_time", "; did you mean 'at_time'?"),
        (f"/v1/batches/{UNKNOWN}/export?form=jsonl", "form", "; did you mean 'format'?"),
        (
            "/v1/audit/export?at_time=2026-01-01T00:00:00Z",
            "at_time",
            "use one of: at_seq, batch_id",
        ),
        ("/v1/webhooks?limit", "limit", "this route takes none"),
    ],
)
async def test_a_parameter_that_a_route_does_not_take_is_refused_with_those_it_takes(
    lone_api: Any, path: str, field: str, words: str
) -> None:
    answer = await lone_api.client.get(path)
    problem = answer.json()
    assert (answer.status_code, words in problem["detail"]) == (400, True), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in problem["errors"]] == [field]


async def test_a_command_with_a_parameter_does_nothing_and_many_are_told_in_short(
    lone_api: Any,
) -> None:
    refused = await lone_api.client.post(f"{START}?dry_run=true", json={"target": 1})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "dry_run")
    assert (await lone_api.log.event_log.head()).last == 0
    many = "&".join(f"{'x' * 500}{number}=1" for number in range(30))
    answer = await lone_api.client.get(f"/v1/batches?{many}")
    assert (answer.status_code, len(answer.text) < 8000) == (400, True)


async def test_the_original_routes_and_the_page_take_parameters_that_they_do_not_know(
    api: Any,
) -> None:
    for path in ("/api/generate/batch/history?_=1", "/api/health?x=1", "/?x=1", "/healthz?x=1"):
        assert (await api.client.get(path)).status_code == 200, path


async def test_methods_sizes_and_origins_are_checked(lone_api: Any) -> None:
    client = lone_api.client
    wrong = await client.delete(START)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, POST")
    assert (await client.post("/")).status_code == 405
    assert (await client.get("/v1/nothing")).status_code == 404
    assert (await client.get("/../../etc/passwd")).status_code == 404
    large = await client.post(START, content=b" " * 1_000_001)
    assert large.status_code == 413
    assert "1,000,000 bytes" in large.json()["detail"]

    async def endless() -> Any:
        for _ in range(200):
            yield b" " * 10_000

    assert (await client.post(START, content=endless())).status_code == 413
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
    ):
        refused = await client.post(START, json={"target": 1}, headers=headers)
        assert refused.status_code == 403, headers
    own = {"Origin": lone_api.url, "Sec-Fetch-Site": "same-origin"}
    assert (await client.post(START, json={"target": 1}, headers=own)).status_code == 201
    assert (await client.get("/v1/stuck", headers={"Origin": "http://a"})).status_code == 200


async def test_every_answer_carries_the_security_headers(lone_api: Any) -> None:
    for path in ("/", "/v1/models", "/api/health", "/v1/nothing", "/healthz"):
        answer = await lone_api.client.get(path)
        assert answer.headers["content-security-policy"].startswith("default-src 'self'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
async def test_a_malformed_idempotency_key_is_refused(lone_api: Any, key: str) -> None:
    answer = await lone_api.client.post(START, json={"target": 1}, headers={"Idempotency-Key": key})
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["detail"]
