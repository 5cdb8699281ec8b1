"""What the stuck rules are told besides the batch's own state."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

CAP_S = 900.0


@dataclass(frozen=True, slots=True)
class Line:
    """Calls that wait for a limit of their route: which, and when any batch there last moved."""

    limit: str
    moved_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the rules need besides the batch's own state; made by the one who has the clock.

    Time in which nobody could move the batch, or nobody could have seen it move, is not held
    against it: ``working_since`` and ``observed_since`` see to that.
    """

    now: datetime
    moved_at: datetime | None
    """When the batch last moved: ``moved_at`` of its events."""
    live_nodes: int
    """How many generators of the batch's pool live."""
    nodeless_since: datetime | None
    """Since when none has; None while one does."""
    latency_p95_s: float | None
    """Of the last calls of the batch's model; None before any is known."""
    floor_s: float
    working_since: datetime | None = None
    """Since when at least one generator has lived without a break."""
    observed_since: datetime | None = None
    """Since when somebody has been watching without a break."""
    alive: Collection[str] | None = None
    """The names of all generators that live; None: whoever holds a slice does."""
    missed: Mapping[str, datetime] = field(default_factory=dict)
    """Nodes that were seen to live, and since when they do not."""
    full_at: Mapping[str, datetime] = field(default_factory=dict)
    """When a generator last had no room for another slice: then its calls take turns."""
    turn_s: float = 0.0
    """How long a turn may take there: the longest threshold of the batches of the pool."""
    is_full: bool = False
    """Whether generators of the pool live and none of them has room for another slice."""
    roomy_since: datetime | None = None
    """Since when one has had room without a break; None for as long as anybody knows."""
    barren_since: datetime | None = None
    """Since when attempts end and none of them gave a sample."""
    complaint: str = ""
    """Why the generators of the pool start no call, in their own words."""
    calling: Collection[str] | None = None
    """The names of those that have calls in flight, of any batch; None: whoever lives has."""
    line: Line | None = None
    """In which its calls wait for a limit of their route, if they do and none of them runs."""
    lease_s: float = 10.0
    cap_s: float = CAP_S
