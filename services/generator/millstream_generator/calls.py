"""A call in flight that a stop may cancel, while the task that makes it goes on."""

import asyncio
from types import TracebackType
from typing import Self


class Call:
    """A context around one call; ``cancel`` ends what it waits for and leaves by its end.

    It does as ``asyncio.timeout`` does, and costs a fifth of a task of its own.
    """

    def __init__(self, calls: "set[Call]") -> None:
        """Stand in ``calls`` while the block runs."""
        self._calls = calls
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self.is_cancelled = False

    def cancel(self) -> None:
        """Cancel the call, if it is in flight; a cancellation of the whole task is another one."""
        if self._task is not None and not self.is_cancelled:
            self.is_cancelled = True
            self._task.cancel()

    def __enter__(self) -> Self:
        """Begin the call."""
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task else 0
        self._calls.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _: TracebackType | None,
    ) -> bool:
        """End the call; nothing is raised when it was this one alone that was cancelled."""
        self._calls.discard(self)
        task, self._task = self._task, None
        if task is None or not self.is_cancelled:
            return False
        return task.uncancel() <= self._cancelling and kind is asyncio.CancelledError
