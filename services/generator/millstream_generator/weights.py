"""Which class of work is pulled next: high to normal to low as 8 to 4 to 1; pure."""

from collections.abc import Collection

from millstream_schemas.subjects import PRIORITIES, Priority

WEIGHTS: dict[Priority, int] = {"high": 8, "normal": 4, "low": 1}
"""Slices pulled of each class in one round, while all have some waiting."""

TOGETHER = 8
"""Slices pulled at once while only one class has any."""


class Shares:
    """Shares pulls among the classes that have work; one without costs the others nothing."""

    def __init__(self) -> None:
        self._credit = dict(WEIGHTS)

    def next(self, ready: Collection[Priority]) -> tuple[Priority, int]:
        """Return the class to pull from and how many slices at most.

        Args:
            ready: The classes that may have work; at least one.
        """
        if len(ready) == 1:
            return next(iter(ready)), TOGETHER
        if not any(self._credit[priority] for priority in ready):
            self._credit = dict(WEIGHTS)
        return next(
            (priority, self._credit[priority])
            for priority in PRIORITIES
            if priority in ready and self._credit[priority]
        )

    def pulled(self, priority: Priority, count: int) -> None:
        """Count what came."""
        self._credit[priority] = max(0, self._credit[priority] - count)
