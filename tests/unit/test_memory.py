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


def test_litellm_loads_its_tokenizer_for_those_who_count_alone() -> None:
    found = subprocess.run(
        [sys.executable, "-P", "-c", _LOADED],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert found.stdout.split() == ["False", "False", "True"]
