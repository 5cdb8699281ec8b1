"""The command line: what it loads, what it refuses, and how it reads an event stream."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from millstream.cli.app import app
from millstream.cli.client import Server, ServerRequestError, batch_path
from millstream.cli.sse import Parser, ServerEvent

HEAVY = {"litellm", "duckdb", "fastapi", "nats", "uvicorn", "aiohttp", "httpx", "rich", "psutil"}


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["up", "--help"],
        ["batch", "start", "--help"],
        ["batch", "clone", "--help"],
        ["local", "--help"],
        ["webhook", "add", "--help"],
        ["version"],
    ],
)
def test_help_and_version_load_nothing_heavy(words: list[str]) -> None:
    script = (
        "import sys, runpy\n"
        f"sys.argv = ['millstream', *{words!r}]\n"
        "try:\n    runpy.run_module('millstream.cli', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print('\\n' + ' '.join(name for name in sys.modules if '.' not in name))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "typer" in loaded
    heavy = HEAVY | ({"pydantic"} if "--help" in words else set())
    assert loaded & heavy == set()


def test_the_commands_are_the_ones_that_scripts_rely_on() -> None:
    listed = CliRunner().invoke(app, ["--help"]).output
    names = ("up", "api", "generator", "projector", "demo", "batch", "local", "doctor", "webhook")
    for name in names:
        assert f"\n  {name} " in listed
    batch = CliRunner().invoke(app, ["batch", "--help"]).output
    commands = ("start", "stop", "list", "show", "watch", "samples", "search")
    commands += ("pause", "resume", "priority", "retry-failed", "continue", "clone")
    for name in commands:
        assert f"\n  {name} " in batch


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["batch", "start"], "--count"),
        (["batch", "start", "--count", "0"], "--count"),
        (["batch", "start", "--count", "-5"], "--count"),
        (["batch", "start", "--count", "1000001"], "--count"),
        (["batch", "start", "--count", "many"], "--count"),
        (["batch", "start", "--count", "5", "--concurrency", "0"], "--concurrency"),
        (["batch", "start", "--count", "5", "--priority", "urgent"], "--priority"),
        (["batch", "start", "--count", "5", "--colour", "red"], "--colour"),
        (["batch", "start", "--count", "5", "--max-cost-usd", "0"], "--max-cost-usd"),
        (["batch", "start", "--count", "5", "--max-failure-ratio", "1.5"], "--max-failure-ratio"),
        (["batch", "stop", "batch_1700000000_0a1b2c3d", "--grace", "5"], "--grace"),
        (["batch", "stop", "batch_1700000000_0a1b2c3d", "--drain", "--grace", "601"], "--grace"),
        (["batch", "priority", "batch_1700000000_0a1b2c3d", "urgent"], "LEVEL"),
        (["batch", "priority", "batch_1700000000_0a1b2c3d"], "LEVEL"),
        (["batch", "continue"], "ID"),
        (["batch", "list", "--state", "sleeping"], "--state"),
        (["batch", "samples"], "ID"),
        (["batch", "search"], "TEXT"),
        (["batch", "stop"], "ID"),
        (["up", "--port", "70000"], "--port"),
        (["up", "--generators", "0"], "--generators"),
        (["dance"], "dance"),
    ],
)
def test_wrong_usage_ends_with_code_2_and_names_what_was_wrong(
    words: list[str], named: str
) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert named in result.output


def millstream(*words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "millstream.cli", *words],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refusal(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the one line with which a command ended."""
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def test_no_server_is_one_line_on_stderr_and_code_1() -> None:
    # Port 9 (discard) is served nowhere; a refused connection is answered at once.
    line = refusal(millstream("batch", "list", "--url", "http://127.0.0.1:9"))
    assert "http://127.0.0.1:9" in line
    assert "millstream up" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "nope"), "--model: model 'nope' is unknown"),
        (("--model", "simulated/fsat"), "did you mean 'simulated/fast'"),
        (("--model", "nobody/x"), "unknown provider 'nobody'"),
        (("--host", "0.0.0.0"), "MILLSTREAM_TOKEN_FILE"),  # noqa: S104
        (("--host", "10.1.2.3"), "10.1.2.3 can be reached from other machines"),
    ],
)
def test_up_refuses_what_can_not_work_before_anything_is_started(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    data = tmp_path / "data"
    line = refusal(millstream("up", "--port", "0", "--data", str(data), *words))
    assert said in line
    assert not data.exists()


@pytest.mark.parametrize("url", ["127.0.0.1:5001", "ftp://example.org", "http://", ""])
def test_an_address_that_is_none_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ServerRequestError, match=r"http://127\.0\.0\.1:5001"):
        Server(url)


@pytest.mark.parametrize(
    "typed",
    ["", " ", "..", "../../etc", "../stats?x=1#y", "batch_1_2", "batch_1700000000_0a1b2c3d/x"],
)
def test_what_is_no_batch_id_is_refused_before_any_request(typed: str) -> None:
    """It could lead to another path."""
    with pytest.raises(ServerRequestError, match=r"is not a batch's: .*`millstream batch list`"):
        batch_path(typed)
    assert batch_path("batch_1700000000_0a1b2c3d") == "/v1/batches/batch_1700000000_0a1b2c3d"


def test_version_prints_one_json_document() -> None:
    result = CliRunner().invoke(app, ["version", "--json"])
    assert set(json.loads(result.output)) == {"version"}


STREAM = (
    "\ufeff: a comment\r\n"
    'id: 7\r\nevent: batch_update\r\ndata: {"a":\r\ndata:  1}\r\n\r\n'
    "event: ignored, since it has no data\n\n"
    "data\n\n"
    "id: 8\ndata: line\u2028separators \u0085 do not end lines\n\n"
    "id: bad\0id\ndata: keeps the last id\rretry: 250\r\r"
    "data: never finished"
).encode()

EXPECTED = [
    ServerEvent("batch_update", '{"a":\n 1}', "7"),
    ServerEvent("message", "", "7"),
    ServerEvent("message", "line\u2028separators \u0085 do not end lines", "8"),
    ServerEvent("message", "keeps the last id", "8"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 64, len(STREAM)])
def test_an_event_stream_reads_the_same_however_it_is_cut(size: int) -> None:
    parser = Parser()
    chunks = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    found = [event for chunk in chunks for event in parser.feed(chunk)]
    assert found == EXPECTED
    assert parser.retry_ms == 250
    assert parser.last_id == "8"
