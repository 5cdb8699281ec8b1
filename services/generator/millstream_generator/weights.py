"""Which class of work is pulled next: high to normal to low as 8 to 4 to 1; pure."""

from collections.abc import Collection

from millstream_schemas.subjects import PRIORITIES, Priority

WEIGHTS: dict[str, int] = {"high": 8, "normal": 4, "low": 1}
"""Slots pulled of each class in one round, while all have some waiting."""

TOGETHER = 8
"""Most slices pulled at once."""

KEPT_ROUNDS = 64
"""For how many rounds a class keeps what it came short by, or had too much of: one large slice of
class low. So one that had little to do for an hour does not keep the others out for long."""


class Shares:
    """Shares pulls among the classes that have work; one without costs the others nothing.

    A line may be empty for a moment, and the others get the room meanwhile: what its class came
    short by stays due to it.
    """

    def __init__(self) -> None:
        self._credit: dict[str, int] = dict.fromkeys(PRIORITIES, 0)
        # How many slots the last slice of a class had: what the next one is likely to have.
        self._slots: dict[str, int] = dict.fromkeys(PRIORITIES, 1)

    def next(self, ready: Collection[Priority]) -> tuple[Priority, int]:
        """Return the class to pull from and how many slices at most.

        Args:
            ready: The classes that may have work; at least one.
        """
        if len(ready) == 1:
            return next(iter(ready)), TOGETHER
        rounds = min(-((self._credit[priority] - 1) // WEIGHTS[priority]) for priority in ready)
        self._go_on(max(0, rounds))
        return next(
            (priority, min(TOGETHER, -(-self._credit[priority] // self._slots[priority])))
            for priority in PRIORITIES
            if priority in ready and self._credit[priority] > 0
        )

    def pulled(self, priority: str, slots: int) -> None:
        """Count a slice that came and is worked on."""
        self._slots[priority] = slots
        least = -KEPT_ROUNDS * WEIGHTS[priority]
        self._credit[priority] = max(least, self._credit[priority] - slots)

    def _go_on(self, rounds: int) -> None:
        for priority, weight in WEIGHTS.items():
            most = KEPT_ROUNDS * weight
            self._credit[priority] = min(most, self._credit[priority] + rounds * weight)
