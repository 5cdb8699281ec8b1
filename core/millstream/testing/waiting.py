"""Waiting on conditions instead of sleeping."""

import asyncio
from collections.abc import Callable

from millstream.runtime.clock import boot_seconds

POLL_S = 0.01


async def until(condition: Callable[[], bool], *, bound_s: float = 20.0, what: str = "") -> None:
    """Return once ``condition()`` is true; it is asked a hundred times a second.

    Raises:
        AssertionError: it stayed false for ``bound_s`` seconds; ``what`` says what was awaited.
    """
    deadline = boot_seconds() + bound_s
    while not condition():
        if boot_seconds() > deadline:
            raise AssertionError(f"not within {bound_s:g} s: {what or condition}")
        await asyncio.sleep(POLL_S)
