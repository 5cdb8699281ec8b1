"""What a node may do with the permits that it holds of a route, by what it knows of the others'."""

from millstream.domain import limits as rules
from millstream.domain import permits
from millstream.domain.limits import RouteState
from millstream_generator.condition import Condition
from millstream_generator.turns import Line

LEAST_LEFT_S = 1.0
"""A permit that runs out sooner is renewed before it is used."""


def usable(condition: Condition) -> int:
    """Return how many calls the node may have in flight that ask nobody: none with due times."""
    is_paced = rules.is_paced(condition.state, condition.limits, condition.now())
    if is_paced or condition.trouble(may_probe=False):
        return 0
    return held_for_sure(condition)


def held_for_sure(condition: Condition) -> int:
    """Return how many permits are this node's whatever the others do meanwhile."""
    state, node, now = condition.state, condition.node, condition.now()
    own = state.permits.get(node)
    if own is None or own.until < now + LEAST_LEFT_S:
        return 0
    return permits.kept(state.permits, node, now, most=_most(condition, now))


def keep_least(condition: Condition, made: RouteState) -> None:
    """Have no more permits than ``made``, which may be stored or not, leaves this node."""
    node, state = condition.node, condition.state
    own, its = state.permits.get(node), made.permits.get(node)
    held = its.held if its else 0
    if own is not None and held < own.held:
        permits_left = {**state.permits, node: own.model_copy(update={"held": held})}
        condition.state = state.model_copy(update={"permits": permits_left})


def is_used_up(condition: Condition, in_flight: int) -> bool:
    """Tell whether the next call needs a permit that the node does not hold."""
    own = condition.state.permits.get(condition.node)
    return own is not None and own.held <= in_flight


def wanted(condition: Condition, line: Line) -> list[int]:
    """Return the tokens of each call in line that would start if it might.

    Where this node's key is refused that is the next probe alone: other nodes have the rest.
    """
    tokens = [waiter.tokens for waiter in line.waiting()]
    return tokens if condition.own.breaker is None else tokens[:1]


def must_give(condition: Condition, line: Line, *, used: int) -> bool:
    """Tell whether another node shall have a permit that this one does not use."""
    now = condition.now()
    return permits.must_give(
        condition.state.permits,
        condition.node,
        now,
        most=_most(condition, now),
        used=used,
        wanted=used + len(wanted(condition, line)),
    )


def may_gain(condition: Condition) -> bool:
    """Tell whether the node, which wants more, gets more or waits for it once it has asked."""
    now = condition.now()
    return permits.may_gain(
        condition.state.permits, condition.node, now, most=_most(condition, now)
    )


def _most(condition: Condition, now: float) -> int:
    return rules.most_calls(condition.state, condition.limits, condition.node, now)
