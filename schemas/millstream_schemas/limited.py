"""Which batches a route's own limits slow down: a live signal, never a fact of the log.

Each generator tells once a second what it makes of the limited routes that it uses. What it said
last holds for as long as it goes on to say so.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from millstream_schemas.envelope import Contract

LimitKind = Literal["calls", "requests", "tokens", "share"]


class InLine(Contract):
    """What one batch does on a route of one node.

    ``is_limited``: the limit lets its calls wait, now or a moment ago; ``next_at`` is when the
    first of them may start, where that is known and more than a moment ahead.
    """

    in_flight: int = 0
    waiting: int = 0
    is_limited: bool = False
    next_at: AwareDatetime | None = None


class LimitedRoute(Contract):
    """One limited route as a node knows it; ``kind`` is null while nothing waits there.

    ``limit`` is what ``kind`` allows at the moment: calls in flight, requests or tokens a minute.
    ``taken`` are the calls that all nodes together have leave to have in flight.
    """

    key: str
    kind: LimitKind | None = None
    model: str
    limit: int = 0
    taken: int = 0
    share: float = 1.0
    batches: dict[str, InLine]


class NodeLimits(Contract):
    """What one generator tells of all limited routes that it uses."""

    node: str
    routes: tuple[LimitedRoute, ...] = ()


class LimitedBy(Contract):
    """The limit of its route that lets a batch's calls wait at this moment, over all nodes.

    A batch that runs as fast as the limit allows is limited too: nothing is wrong with it.
    """

    kind: LimitKind = Field(
        description="Calls in flight, requests or tokens a minute; share: a part of its usual pace"
        " is all that the route gets after a 429."
    )
    model: str
    limit: int = Field(description="What is allowed at the moment; 0 where it is a share alone.")
    taken: int = Field(0, description="Of the calls that may be in flight: how many are.")
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    in_flight: int = Field(0, description="Calls of this batch that run.")
    waiting: int = Field(0, description="Calls of this batch in line.")
    shared_with: int = Field(0, description="Other batches that use the route now.")
    next_at: AwareDatetime | None = Field(
        None, description="When its next call may start, where that is a second or more ahead."
    )
    message: str = Field(description="The limit in words.")
