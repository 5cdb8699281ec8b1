"""Which batches a route's own limits slow down: a live signal, never a fact of the log.

Each generator tells once a second what it makes of the limited routes that it uses. What it said
last holds for as long as it goes on to say so.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from millstream_schemas.envelope import EXACT_MOST, Contract, Saturating

LimitKind = Literal["calls", "requests", "tokens", "share"]

Count = Annotated[int, Field(ge=0, le=EXACT_MOST), Saturating]

Share = Annotated[float, Field(ge=0, le=1)]
"""A part of a route's usual pace; 0 is read as what an older node makes of very little."""

Moment = Annotated[
    AwareDatetime,
    Field(ge=datetime(1971, 1, 1, tzinfo=UTC), le=datetime(9998, 12, 31, tzinfo=UTC)),
]
"""A time that every reader can tell in its own time zone."""


class InLine(Contract):
    """What one batch does on a route of one node.

    ``is_limited``: the limit lets its calls wait, now or a moment ago; ``next_at`` is when the
    first of them may start, where that is known and more than a moment ahead.
    """

    in_flight: Count = 0
    waiting: Count = 0
    is_limited: bool = False
    next_at: Moment | None = None


class LimitedRoute(Contract):
    """One limited route as a node knows it; ``kind`` is null while nothing waits there.

    ``limit`` is what ``kind`` allows at the moment: calls in flight, requests or tokens a minute.
    ``taken`` are the calls that all nodes together have leave to have in flight.
    """

    key: str
    kind: LimitKind | None = None
    model: str
    limit: Count = 0
    taken: Count = 0
    share: Share = 1.0
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
    share: Share = 1.0
    in_flight: int = Field(0, description="Calls of this batch that run.")
    waiting: int = Field(0, description="Calls of this batch in line.")
    shared_with: int = Field(0, description="Other batches that use the route now.")
    next_at: AwareDatetime | None = Field(
        None, description="When its next call may start, where that is a second or more ahead."
    )
    message: str = Field(description="The limit in words.")
