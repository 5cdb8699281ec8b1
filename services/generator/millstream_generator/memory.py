"""Keeps the process small: one heap for all threads, and back to the system what loading left.

Told to glibc's allocator, where there is one; elsewhere nothing is done.
"""

import ctypes
import gc
import linecache
from typing import Any

_ARENAS_MOST = -8
"""``M_ARENA_MAX`` of ``mallopt(3)``."""


def share_one_heap() -> None:
    """Let all threads take memory from one heap; call it before there are threads.

    Else glibc opens a heap for each, up to eight per core. They hold little in Python, where one
    thread runs at a time, yet what a thread frees stays with its heap: 15 MB with litellm's.
    """
    mallopt = _of_libc("mallopt")
    if mallopt is not None:
        mallopt(_ARENAS_MOST, 1)


def give_back() -> None:
    """Free what loading modules left behind: garbage, lines of sources, empty pages of the heap."""
    gc.collect()
    linecache.clearcache()
    trim = _of_libc("malloc_trim")
    if trim is not None:
        trim(0)


def keep() -> None:
    """Free what loading left, and let no collection look at the rest again: it stays.

    With litellm loaded a look at all of it holds every thread up for 0.2 s.
    """
    give_back()
    gc.freeze()


def _of_libc(name: str) -> Any:
    """Return a function of the C library, None where it has none of that name."""
    return getattr(ctypes.CDLL(None), name, None)
