"""Waiting on conditions instead of sleeping."""

import asyncio
from collections.abc import Callable

from millstream.runtime.clock import boot_seconds

POLL_S = 0.01
BOUND_S = 90.0
"""How long a test waits for what must come, on a machine many times slower than is usual.

It costs time only where a test fails; a wait that proves something by its length has its own.
"""


async def until(condition: Callable[[], bool], *, bound_s: float = BOUND_S, what: str = "") -> None:
    """Return once ``condition()`` is true; it is asked a hundred times a second.

    Raises:
        AssertionError: it stayed false for ``bound_s`` seconds; ``what`` says what was awaited.
    """
    deadline = boot_seconds() + bound_s
    while not condition():
        if boot_seconds() > deadline:
            raise AssertionError(f"not within {bound_s:g} s: {what or condition}")
        await asyncio.sleep(POLL_S)
