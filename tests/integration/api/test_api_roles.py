"""Role by route: what each kind of token gets, and that a revoked one gets nothing."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from millstream.cli.admin_app import app
from millstream.errors import SettingsError, UsageError
from millstream.runtime.tokens import create_token, parse_span, read_tokens, session_of
from millstream.testing.nats import running_log
from millstream.testing.waiting import until
from millstream_api.auth import COOKIE

pytestmark = pytest.mark.anyio

UNKNOWN = "batch_1767225600_ffffffff"
READS = [
    "/v1/batches",
    "/v1/statistics",
    "/v1/stuck",
    "/v1/nodes",
    "/v1/about",
    "/v1/recipes",
    "/v1/models",
    "/v1/openapi.json",
    "/api/generate/batch/status",
    "/metrics",
]
COMMANDS = [
    *(("POST", f"/v1/batches/{UNKNOWN}/{name}") for name in ("stop", "pause", "resume", "clone")),
    ("POST", "/v1/batches"),
    ("POST", "/v1/batches:bulk"),
    ("PATCH", f"/v1/batches/{UNKNOWN}"),
    ("POST", "/api/generate/batch/start"),
    ("POST", "/api/generate/batch/stop"),
]
"""Sent without a body that could do anything: whoever may, is refused for other reasons."""


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["token", *words])


async def test_each_role_gets_its_routes_and_no_other(tmp_path: Path, make_api: Any) -> None:
    file = tmp_path / "tokens"
    tokens = {
        role: run("create", f"the-{role}", "--role", role, "--file", str(file)).stdout.strip()
        for role in ("viewer", "operator", "admin")
    }
    kept = file.read_text()
    assert not any(token in kept or session_of(token) in kept for token in tokens.values())
    assert file.stat().st_mode & 0o077 == 0
    async with (
        running_log(tmp_path) as log,
        make_api(log, projector=True, tokens_file=file) as api,
    ):
        known = {"Authorization": f"Bearer {tokens['viewer']}"}
        while (await api.client.get("/v1/batches", headers=known)).status_code == 503:
            await asyncio.sleep(0.02)  # the projector still starts
        for role, token in {**tokens, "nobody": "mill_0"}.items():
            for shown in (
                {"Authorization": f"Bearer {token}"},
                {"Cookie": f"{COOKIE}={session_of(token)}"},
            ):
                table = {}
                for path in READS:
                    answer = await api.client.get(path, headers=shown)
                    table[path] = answer.status_code
                wanted = 401 if role == "nobody" else 200
                assert table == dict.fromkeys(READS, wanted), role
                for method, path in COMMANDS:
                    answer = await api.client.request(method, path, headers=shown, content="[]")
                    got = answer.status_code
                    if role in {"nobody", "viewer"}:
                        assert got == (401 if role == "nobody" else 403), (role, path)
                    else:
                        assert got in {400, 404, 422}, (role, path, answer.text)
                digests = await api.client.get("/v1/audit/digests", headers=shown)
                allowed = {"nobody": {401}, "viewer": {403}, "operator": {403}}
                assert digests.status_code in allowed.get(role, {200}), digests.text
        opened = await api.client.get("/", params={"token": tokens["operator"]})
        cookie = opened.headers["set-cookie"]
        assert opened.status_code == 303
        assert "HttpOnly; SameSite=Strict" in cookie
        assert tokens["operator"] not in cookie
        bearer = {"Authorization": f"Bearer {tokens['operator']}"}
        started = await api.client.post("/v1/batches", json={"target": 2}, headers=bearer)
        assert started.json()["batch"]["started_by"] == "the-operator"
        assert run("revoke", "the-operator", "--file", str(file)).exit_code == 0
        api.client.cookies.clear()
        assert (await api.client.get("/v1/stuck", headers=bearer)).status_code == 401
        session = {"Cookie": cookie.partition(";")[0]}
        assert (await api.client.get("/v1/stuck", headers=session)).status_code == 401
        file.write_text("nonsense")  # nothing that can be read: nobody comes in
        admin = {"Authorization": f"Bearer {tokens['admin']}"}
        assert (await api.client.get("/v1/stuck", headers=admin)).status_code == 401


async def test_the_open_streams_of_a_revoked_token_end_and_no_other(
    tmp_path: Path, make_api: Any
) -> None:
    file = tmp_path / "tokens"
    ada, bob = (create_token(file, name, "operator") for name in ("ada", "bob"))
    paths = ("/v1/stream", "/v1/stream?flavour=events", "/api/generate/batch/stream")
    got: dict[tuple[str, str], bytes] = {}
    ended: set[tuple[str, str]] = set()

    async def follow(client: Any, name: str, token: str, path: str) -> None:
        shown = {"Authorization": f"Bearer {token}"}
        if path == paths[0]:
            shown = {"Cookie": f"{COOKIE}={session_of(token)}"}
        async with client.stream("GET", path, headers=shown, timeout=None) as answer:
            assert answer.status_code == 200
            async for piece in answer.aiter_bytes():
                got[name, path] = got.get((name, path), b"") + piece
        ended.add((name, path))

    async with (
        running_log(tmp_path) as log,
        make_api(log, projector=False, tokens_file=file) as api,
        asyncio.TaskGroup() as tasks,
    ):
        following = [
            tasks.create_task(follow(api.client, name, token, path))
            for name, token in (("ada", ada), ("bob", bob))
            for path in paths
        ]
        await until(lambda: len(got) == 6)
        assert run("revoke", "ada", "--file", str(file)).exit_code == 0
        await until(lambda: len(ended) == 3)
        assert ended == {("ada", path) for path in paths}
        before = {path: len(got["bob", path]) for path in paths}
        shown = {"Authorization": f"Bearer {bob}"}
        started = await api.client.post("/v1/batches", json={"target": 2}, headers=shown)
        assert started.status_code == 201
        await until(lambda: all(len(got["bob", path]) > before[path] for path in paths))
        for task in following:
            task.cancel()


async def test_an_expired_token_is_refused_with_its_sessions_and_its_streams_end(
    tmp_path: Path, make_api: Any
) -> None:
    file = tmp_path / "tokens"
    lasting = create_token(file, "bob", "viewer", expires_in=timedelta(days=60))
    async with (
        running_log(tmp_path) as log,
        make_api(log, projector=False, tokens_file=file) as api,
    ):
        client = api.client
        brief = create_token(file, "ada", "operator", expires_in=timedelta(seconds=6))
        opened = await client.get("/", params={"token": brief})
        assert opened.headers["set-cookie"].rpartition("=")[2] in {*"012345"}
        client.cookies.clear()
        bearer = {"Authorization": f"Bearer {brief}"}
        session = {"Cookie": opened.headers["set-cookie"].partition(";")[0]}
        async with client.stream("GET", "/v1/stream", headers=session, timeout=20) as answer:
            assert answer.status_code == 200
            assert b"all_batches" in b"".join([piece async for piece in answer.aiter_bytes()])
        for shown in (bearer, session):
            refused = await client.get("/v1/stuck", headers=shown)
            assert refused.status_code == 401
            assert refused.json()["type"].endswith("token_expired")
            for word in ("the token ada expired at 20", "`millstream admin token revoke ada`"):
                assert word in refused.json()["detail"]
        again = await client.get("/", params={"token": brief})
        assert (again.status_code, "set-cookie" in again.headers) == (401, False)
        kept = await client.get("/", params={"token": lasting})
        assert kept.headers["set-cookie"].endswith("Max-Age=2592000")
    first, second = run("list", "--file", str(file)).stdout.splitlines()
    assert ("  expires 20" in first, "  expired 20" in second) == (True, True)


@pytest.mark.parametrize("span", ["", "30", "0d", "-1d", "1y", "1.5h", "3651d", "999999w", "1d "])
async def test_a_token_lasts_a_whole_time_that_can_be(tmp_path: Path, span: str) -> None:
    file = tmp_path / "tokens"
    answer = run("create", "ada", "--expires-in", span, "--file", str(file))
    assert (answer.exit_code, "such as 30d" in answer.stderr) == (2, True)
    assert not file.exists()
    assert parse_span("90m") + parse_span("12h") + parse_span("4w") == timedelta(hours=685.5)


async def test_what_can_not_be_done_with_tokens_is_said_in_words(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    create_token(file, "ada", "viewer")
    with pytest.raises(UsageError, match="called ada already"):
        create_token(file, "ada", "admin")
    with pytest.raises(UsageError, match="no name of a token"):
        create_token(file, "Ada Lovelace", "viewer")
    assert [token.role for token in read_tokens(file)] == ["viewer"]
    listed = run("list", "--file", str(file))
    assert listed.stdout.startswith("ada  viewer  ")
    gone = run("revoke", "bob", "--file", str(file))
    assert (gone.exit_code, "there are: ada" in gone.stderr) == (2, True)
    local = json.loads(file.read_text()) | {"expires_at": "2026-12-01T00:00:00"}
    for line in ("{}", json.dumps(local)):
        file.write_text(line)
        with pytest.raises(SettingsError, match="line 1 of MILLSTREAM_TOKENS_FILE"):
            read_tokens(file)
    file.write_text(json.dumps(local | {"expires_at": "2026-12-01T01:00:00+01:00"}))
    assert "expires 2026-12-01 00:00:00Z" in run("list", "--file", str(file)).stdout
