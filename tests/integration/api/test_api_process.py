"""The API as a process: how it starts, refuses to start, and ends."""

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from millstream.errors import SettingsError
from millstream.eventlog.server import free_port
from millstream.runtime.settings import load_settings
from millstream.testing.nats import RunningLog, running_log
from millstream.testing.service_process import ApiProcess, ServiceProcess
from millstream_api.service import main

pytestmark = pytest.mark.anyio

TOKEN = "correct horse battery"


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[RunningLog]:
    async with running_log(tmp_path) as running:
        yield running


def open_stream(api: ApiProcess, path: str) -> socket.socket:
    """Return a connection whose stream has begun."""
    stream = socket.create_connection(("127.0.0.1", api.port), timeout=20)
    stream.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{api.port}\r\n\r\n".encode())
    received = b""
    while b"all_batches" not in received:
        received += stream.recv(65_536)
    return stream


def read_rest(stream: socket.socket) -> bytes:
    """Return everything up to the end of the connection."""
    received = b""
    while part := stream.recv(65_536):
        received += part
    return received


async def test_open_streams_are_ended_in_order_and_nothing_is_complained_of(
    log: RunningLog, tmp_path: Path
) -> None:
    paths = ["/v1/stream", "/api/generate/batch/stream"] * 10
    with ApiProcess(tmp_path / "api.log", log.server.url) as api, contextlib.ExitStack() as opened:
        streams = [opened.enter_context(open_stream(api, path)) for path in paths]
        deaf = opened.enter_context(open_stream(api, paths[0]))
        api.terminate()
        assert api.exit_code == 0
        for stream in streams:
            rest = read_rest(stream)
            assert re.search(rb"retry: \d+\n\n", rest)  # told when to come back
            assert rest.endswith(b"0\r\n\r\n")  # the last chunk: ended, not cut
        deaf.close()
        written = api.log()
    assert "Traceback" not in written
    assert "error" not in written.lower()
    assert "service.stopped" in written


async def test_it_loads_neither_litellm_nor_duckdb() -> None:
    code = (
        "import sys, millstream_api.service; "
        "print(sorted({'litellm', 'duckdb', 'openai'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert found.stdout.strip() == "[]"


async def test_a_taken_port_is_one_clear_line(log: RunningLog, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        service = ServiceProcess(
            "millstream_api", tmp_path / "api.log", nats_url=log.server.url, port=str(port)
        )
        service.launch()
        assert service.wait(60) == 1
    written = service.log()
    assert f"millstream api: port {port} of 127.0.0.1 is in use; stop the program" in written
    assert "Traceback" not in written


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"host": "0.0.0.0"}, "MILLSTREAM_HOST=0.0.0.0 can be reached"),  # noqa: S104
        ({"host": "no.such.host.invalid", "token_file": "{token}"}, "is no address"),
        ({"token_file": "/no/such/file"}, "MILLSTREAM_TOKEN_FILE=/no/such/file can't be read"),
        ({"token_file": "{short}"}, "holds no usable token"),
        ({"models_file": "/no/such/file"}, "models file /no/such/file"),
        ({"recipes_dir": "/no/such/folder"}, "recipe folder /no/such/folder"),
        ({"default_model": "nothing"}, "MILLSTREAM_DEFAULT_MODEL: model 'nothing' is unknown"),
    ],
)
async def test_a_setting_that_can_not_be_is_refused_in_words(
    tmp_path: Path, changed: dict[str, str], words: str
) -> None:
    names = {"token": tmp_path / "token", "short": tmp_path / "short"}
    names["token"].write_text(TOKEN)
    names["short"].write_text("abc")
    chosen = {name: value.format(**names) for name, value in changed.items()}
    settings = load_settings(port=free_port(), nats_url="nats://127.0.0.1:9", **chosen)
    with pytest.raises(SettingsError, match=re.escape(words)):
        await main(settings, asyncio.Event())


async def test_with_a_token_every_route_wants_it(log: RunningLog, tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN + "\n")
    with ApiProcess(tmp_path / "api.log", log.server.url, token_file=str(token_file)) as api:
        with httpx.Client(base_url=api.url) as client:
            for path in ("/", "/v1/models", "/api/health", "/v1/stream", "/v1/openapi.json"):
                refused = client.get(path)
                assert refused.status_code == 401, path
                assert refused.headers["www-authenticate"] == "Bearer"
            wrong = client.get("/v1/models", headers={"Authorization": f"Bearer {TOKEN}x"})
            assert wrong.status_code == 401
            right = client.get("/v1/models", headers={"Authorization": f"Bearer {TOKEN}"})
            assert right.status_code == 200
            assert client.get("/healthz").status_code == 200
            assert client.get("/", params={"token": "wrong"}).status_code == 401
            opened = client.get("/", params={"token": TOKEN})
            assert (opened.status_code, opened.headers["location"]) == (303, "/")
            cookie = opened.headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            assert TOKEN not in cookie
            assert client.get("/").status_code == 200  # the cookie is kept by the client
            started = client.post("/v1/batches", json={"target": 1})
            assert started.status_code == 201
            assert started.json()["batch"]["started_by"] == "token"
            crossed = client.post(
                "/v1/batches", json={"target": 1}, headers={"Origin": "http://evil.example"}
            )
            assert crossed.status_code == 403
        assert TOKEN not in api.log()


async def test_it_is_ready_once_the_log_is_folded(log: RunningLog, tmp_path: Path) -> None:
    with ApiProcess(tmp_path / "api.log", log.server.url) as api:
        started = httpx.post(f"{api.url}/v1/batches", json={"target": 5}).json()
        api.kill()
        api.launch()
        ready = httpx.get(f"{api.url}/readyz").json()
        assert ready == {"status": "ready", "as_of": started["sequence"]}
        batch = httpx.get(f"{api.url}/v1/batches/{started['batch']['id']}").json()["batch"]
        assert batch == started["batch"]
        assert json.loads(httpx.get(f"{api.url}/healthz").text)["status"] == "ok"
