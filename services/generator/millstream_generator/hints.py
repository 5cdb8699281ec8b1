"""Hints that another node may have changed what all nodes share of a route."""

from dataclasses import dataclass

from millstream.domain import limits as rules
from millstream.domain.limits import RouteState
from millstream.runtime.clock import boot_seconds

HINT_S = 1.0
"""A hint may come before what it tells of is stored; one that lost is forgotten after so long."""


@dataclass(slots=True)
class Hints:
    """Remembers the last hint until what it tells of is known; ``with_permits``: these too."""

    with_permits: bool
    _last: tuple[float, RouteState] | None = None

    @property
    def is_open(self) -> bool:
        """Whether something was told that is not known here yet."""
        return self._last is not None

    def hear(self, told: RouteState, known: RouteState) -> None:
        """Take a hint."""
        self._last = None if self._is_known(told, known) else (boot_seconds() + HINT_S, told)

    def close(self, known: RouteState) -> None:
        """Forget a hint of what is ``known`` by now, or that has lost."""
        if self._last is not None:
            until, told = self._last
            if boot_seconds() > until or self._is_known(told, known):
                self._last = None

    def _is_known(self, told: RouteState, known: RouteState) -> bool:
        is_same = (told.cooldown_until, rules.cut_at(told), told.breaker) == (
            known.cooldown_until,
            rules.cut_at(known),
            known.breaker,
        )
        return is_same and (not self.with_permits or _shares(told) == _shares(known))


def _shares(state: RouteState) -> dict[str, tuple[int, bool]]:
    """Return of each node what others act on: its permits, and whether it wants more."""
    return {
        node: (permit.held, permit.wanted > permit.held) for node, permit in state.permits.items()
    }
