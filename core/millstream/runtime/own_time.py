"""The processor time of one piece of work, apart from what runs in the same loop meanwhile."""

import time
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


@types.coroutine
def own_time(work: Coroutine[Any, Any, T]) -> Generator[Any, Any, tuple[T, float]]:
    """Await ``work``; return what it gives, and the processor seconds of its own steps.

    What it waits for costs nothing, other tasks that run then do not count, nor do those that it
    has begun. Raises as ``work`` does.
    """
    used_s = 0.0
    thrown: BaseException | None = None
    while True:
        began = time.thread_time()
        try:
            awaited = work.send(None) if thrown is None else work.throw(thrown)
        except StopIteration as end:
            return end.value, used_s + time.thread_time() - began
        used_s += time.thread_time() - began
        thrown = None
        try:
            yield awaited
        except BaseException as error:  # noqa: BLE001  # handed on: it is the work's to answer
            thrown = error
