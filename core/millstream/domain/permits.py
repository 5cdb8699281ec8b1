"""Who may have how many calls of a route in flight: permits that the nodes share and hand on.

Pure. A node makes one call after the other with a permit that it holds and asks nobody. Only the
node itself gives one up, since nobody else knows which of its calls run; whoever writes hands what
is free to those that wait with the fewest. So a permit changes hands with one write, and what
nodes know of each other may be old: nobody ever has fewer permits than it believes.
"""

from collections import Counter
from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from typing import Annotated

from pydantic import Field

from millstream_schemas.envelope import Contract

PERMIT_S = 10.0
"""A permit that is not renewed for so long belonged to a node that died."""
CALLS_MOST_S = 60.0
"""So long may its calls run on that nobody has its permits yet."""
TURN_S = 2.0
"""How long a node keeps the one permit that it has more than another one that waits."""
WAIT_S = 5.0
"""A node that waits says so more often than that; one that does not may have died."""
ASK_S = 1.0
"""A node that waits asks no sooner again: whoever writes gives it what is free by then."""
SKEW_MOST_S = 5.0


class Permit(Contract):
    """How many calls a node may have in flight, how many it would like, and until when.

    ``since`` is when ``held`` was last another number. ``most`` is the limit that the node keeps:
    batches pin the one of their start, so those that share a route may have different ones.
    ``calls_s`` is how long its calls take: one that can't renew starts none after ``until``, but
    those that run end by themselves, and until then others leave it what it had.
    """

    held: Annotated[int, Field(ge=0)]
    wanted: Annotated[int, Field(ge=0)]
    until: float
    since: float = 0.0
    most: int | None = None
    calls_s: Annotated[float, Field(ge=0, le=CALLS_MOST_S)] = 0.0

    def is_living(self, now: float) -> bool:
        """Tell whether it counts: it was renewed, by a clock that is not far ahead."""
        return now - self.calls_s < self.until <= now + PERMIT_S + SKEW_MOST_S

    def is_waiting(self, now: float) -> bool:
        """Tell whether its node wants more than it has, and said so a moment ago."""
        return self.wanted > self.held and now < self.until - PERMIT_S + WAIT_S


Permits = Mapping[str, Permit]


def asked(
    permits: Permits,
    node: str,
    now: float,
    *,
    most: int,
    used: int,
    wanted: int,
    limit: int | None = None,
    calls_s: float = 0.0,
) -> dict[str, Permit]:
    """Return everyone's permits after ``node`` told what it uses and would like to use.

    Args:
        permits: Everyone's, as they are stored.
        node: Who asks.
        now: The present.
        most: How many there are.
        used: How many the node uses now; it keeps at least these.
        wanted: How many it would use if it had them.
        limit: The limit that it keeps, which holds for all as long as it is at work.
        calls_s: How long its calls take.
    """
    before = permits.get(node)
    after = {name: one for name, one in permits.items() if name != node and one.is_living(now)}
    if wanted:
        held = max(used, min(wanted, kept(permits, node, now, most=most)))
        is_same = before is not None and before.held == held
        since = before.since if before is not None and is_same else now
        until = now + PERMIT_S
        after[node] = Permit(
            held=held,
            wanted=wanted,
            until=until,
            since=since,
            most=limit,
            calls_s=min(calls_s, CALLS_MOST_S),
        )
    return _handed_out(after, now, most)


def lowest(permits: Permits, node: str, now: float, *, limit: int) -> int:
    """Return the lowest limit of ``node``, which keeps ``limit``, and of all others at work."""
    others = (one for name, one in permits.items() if name != node and one.is_living(now))
    return min([limit, *(one.most for one in others if one.most is not None)])


def _handed_out(permits: dict[str, Permit], now: float, most: int) -> dict[str, Permit]:
    """Give what is free to those that wait, the one with the fewest first, then the longest."""
    free = most - _held(permits)
    line = [(one.held, one.since, name) for name, one in permits.items() if one.is_waiting(now)]
    heapify(line)
    given: Counter[str] = Counter()
    while free > 0 and line:
        held, since, name = heappop(line)
        given[name] += 1
        free -= 1
        if held + 1 < permits[name].wanted:
            heappush(line, (held + 1, since, name))
    for name, more in given.items():
        held = permits[name].held + more
        permits[name] = permits[name].model_copy(update={"held": held, "since": now})
    return permits


def kept(permits: Permits, node: str, now: float, *, most: int) -> int:
    """Return how many of its permits ``node`` need not give up: so many calls it may have.

    One that has more than another node which waits gives up half of the difference, and one that
    has a single permit more gives that up after its turn: with fewer permits than nodes, each
    node gets some in its turn. Where there are more than ``most`` by now, all come down to it.
    """
    own = permits.get(node)
    if own is None or not own.is_living(now):
        return 0
    others = [one for name, one in permits.items() if name != node and one.is_living(now)]
    held = own.held
    over = held + sum(one.held for one in others) - most
    if over > 0:
        held = max(held - over, min(held, max(1, most // (1 + len(others)))))
    more = held - min((one.held for one in others if one.is_waiting(now)), default=held)
    if more == 1:
        return held - (now - own.since >= TURN_S)
    return held - max(0, more) // 2


def must_give(
    permits: Permits, node: str, now: float, *, most: int, used: int, wanted: int
) -> bool:
    """Tell whether ``node`` has a permit that it does not use and that another one waits for."""
    own = permits.get(node)
    if own is None or own.held <= used:
        return False
    may_keep = kept(permits, node, now, most=most)
    return may_keep < own.held or (wanted < own.held and is_waited_for(permits, node, now))


def may_gain(permits: Permits, node: str, now: float, *, most: int) -> bool:
    """Tell whether asking helps ``node``: permits are free, or nobody knows that it waits."""
    own = permits.get(node)
    if own is None or not own.is_waiting(now):
        return True
    if now < own.until - PERMIT_S + ASK_S:
        return False
    return most > sum(one.held for one in permits.values() if one.is_living(now))


def is_waited_for(permits: Permits, node: str, now: float) -> bool:
    """Tell whether another node waits for permits of the route."""
    return any(one.is_waiting(now) for name, one in permits.items() if name != node)


def without(permits: Permits, node: str, now: float, *, most: int) -> dict[str, Permit]:
    """Return the others' permits after ``node`` left: they have what it had at once."""
    return asked(permits, node, now, most=most, used=0, wanted=0)


def _held(permits: Permits) -> int:
    return sum(one.held for one in permits.values())
