"""What keeps a generator small."""

import ctypes
import linecache
import subprocess
import sys
from collections.abc import Callable

import pytest

from millstream_generator import memory

_LOADED = """
import sys
from millstream_generator.litellm_lane import _load

litellm = _load()
tokenizer = "litellm.litellm_core_utils.default_encoding"
print(tokenizer in sys.modules, "openai.resources" in sys.modules)
litellm.main.encoding.encode("two words")
print(tokenizer in sys.modules)
"""

_KEPT = """
import asyncio, gc, sys
import openai
from millstream.runtime.settings import Settings
from millstream_generator import memory
from millstream_generator.litellm_lane import WITHOUT_CLIENT, LitellmLane
from millstream_generator.targets import Targets

async def main():
    lane = LitellmLane(Targets(Settings()), memory.keep)
    for model in ("", *WITHOUT_CLIENT):
        await lane.warm_up(model)
    kept = gc.get_freeze_count()
    print(len(gc.get_objects()) < kept / 10, "openai.resources" in sys.modules)
    for model in WITHOUT_CLIENT:
        try:
            stream = await lane._litellm.acompletion(
                model=f"{model}x", messages=[{"role": "user", "content": "Why?"}], stream=True,
                api_key="none", api_base="http://127.0.0.1:9/v1", timeout=5.0, max_retries=0,
            )
            await anext(stream)
        except openai.OpenAIError as error:
            assert "onnect" in str(error), error
    print("openai.resources" in sys.modules)
    await lane.warm_up("perplexity/x")
    print("openai.resources" in sys.modules, gc.get_freeze_count() > kept)
    await lane.close()

asyncio.run(main())
"""

_LEFT_OUT = """
import sys
from millstream_generator import __main__, left_out, litellm_setup
from millstream.runtime.logs import configure_logs
from millstream.runtime.settings import Settings
import structlog

print(*[name for name in sys.modules if name.startswith(left_out.UNUSED) and sys.modules[name]])
configure_logs(Settings(log_format="text"), "generator")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger().exception("told")
"""


def test_lines_of_sources_are_not_kept() -> None:
    assert linecache.getline(__file__, 1)
    memory.give_back()
    assert not linecache.cache


@pytest.mark.parametrize("act", [memory.share_one_heap, memory.give_back])
def test_another_allocator_than_glibcs_is_left_alone(
    act: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    act()


def _run(script: str) -> list[str]:
    return _ran(script).stdout.split()


def _ran(script: str) -> subprocess.CompletedProcess[str]:
    found = subprocess.run(
        [sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert found.returncode == 0, found.stderr
    return found


def test_litellm_loads_its_tokenizer_for_those_who_count_alone() -> None:
    assert _run(_LOADED) == ["False", "False", "True"]


def test_what_litellm_loads_is_kept_and_openais_client_loads_before_it_is_called() -> None:
    assert _run(_KEPT) == ["True", "False", "False", "True", "True"]


def test_what_only_draws_is_left_out_and_errors_are_told_without() -> None:
    found = _ran(_LEFT_OUT)
    assert found.stdout.split() == []
    assert "told" in found.stderr
    assert "ZeroDivisionError: division by zero" in found.stderr
