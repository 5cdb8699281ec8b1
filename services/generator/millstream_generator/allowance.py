"""How many calls one lease may start, where a budget bounds them."""


class Allowance:
    """Counts the calls of a lease as they start: none that was not granted ever does."""

    def __init__(self, calls: int | None = None) -> None:
        self._left = calls

    @property
    def is_used_up(self) -> bool:
        """Whether no further call may start."""
        return self._left == 0

    def close(self) -> None:
        """Let no further call start."""
        self._left = 0

    def take(self) -> bool:
        """Take one call; False when none is left. Without a budget there always is one."""
        if self._left is None:
            return True
        if not self._left:
            return False
        self._left -= 1
        return True
