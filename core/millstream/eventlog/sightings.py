"""How long ago this process saw each node's permits renewed, by its own clock.

Whether a node lives is a matter of a duration. Two nodes that tell the time by the server's stamps
may differ by as much as the server's clock was put forward or back, until both have measured it
anew: so nobody's permits run out by a time that somebody else wrote.
"""

from millstream.domain import permits as rules
from millstream.domain.limits import RouteState
from millstream.runtime.clock import boot_seconds


class Sightings:
    """Puts the permits in the documents of all routes to times of this process."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, tuple[float, float]]] = {}

    def seen(self, key: str, state: RouteState, now: float) -> RouteState:
        """Return what is stored with permits that run out by when they were seen to be renewed.

        Args:
            key: The route.
            state: What is stored.
            now: The log's time.
        """
        before, here = self._seen.get(key), boot_seconds()
        found: dict[str, tuple[float, float]] = {}
        for node, permit in state.permits.items():
            if before is None:  # nothing is known but what it says itself
                since = here - max(0.0, now - (permit.until - rules.PERMIT_S))
            else:
                until, since = before.get(node, (None, here))
                since = since if until == permit.until else here
            found[node] = (permit.until, since)
        self._seen[key] = found
        if not found:
            return state
        permits = {
            node: permit.model_copy(
                update={
                    "until": now + rules.PERMIT_S - (here - found[node][1]),
                    # Of a clock that was put back since, it would not end its turn.
                    "since": min(permit.since, now),
                }
            )
            for node, permit in state.permits.items()
        }
        return state.model_copy(update={"permits": permits})

    @staticmethod
    def stored(state: RouteState, seen: RouteState, changed: RouteState) -> RouteState:
        """Return what to store of ``changed``, made of what was ``seen`` in ``state``.

        Only a node itself renews its permits: what is not renewed keeps the time that it has.
        """
        permits = {
            node: permit.model_copy(update={"until": state.permits[node].until})
            if node in seen.permits and permit.until == seen.permits[node].until
            else permit
            for node, permit in changed.permits.items()
        }
        return changed.model_copy(update={"permits": permits})
