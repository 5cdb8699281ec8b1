"""Who worked on a batch when: its events along time, in a lane for each node or for each route."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from millstream_schemas.envelope import Contract
from millstream_schemas.views import Query

LANES_MOST = 40
LanesBy = Literal["node", "model"]
LaneKind = Literal[
    "made",
    "lost",
    "failed",
    "abandoned",
    "late",
    "claimed",
    "rescued",
    "released",
    "trial",
    "closed",
    "stop",
    "command",
    "note",
]

Mark = Annotated[
    tuple[int, int, int],
    Field(description="Number of the bucket, how many events, the sequence of the first of them."),
]


class Lane(Contract):
    """What one node did, or one model of a provider; ``name`` is null for the batch itself.

    ``lost`` are calls that failed or gave no usable answer, so that their slot is tried again
    unless a ``failed`` gives it up; ``abandoned`` ones a stop cut off, ``late`` ones came late or
    twice. ``rescued`` are claims of a slice whose holder had died. In lanes per model the events
    of slices stand in the batch's own lane: they are of no model.
    """

    name: str | None
    provider: str | None = None
    first: datetime
    last: datetime
    marks: dict[LaneKind, tuple[Mark, ...]]


class Lanes(Contract):
    """The events of one batch in lanes, counted in buckets of ``bucket_ms`` from ``start`` on.

    ``end`` is the last event of a batch that has ended, and the moment of the answer for one that
    goes on. The batch's own lane is the first, the others stand in the order of their first events.
    """

    batch_id: str
    by: LanesBy
    start: datetime
    end: datetime
    bucket_ms: int
    lanes: tuple[Lane, ...]
    left_out: int = Field(description="Lanes beyond those: the ones with the fewest events.")
    as_of: int


class LanesQuery(Query):
    """Ask for the lanes of one batch."""

    batch_id: str
    by: LanesBy = "node"
    limit: Annotated[int, Field(ge=1, le=LANES_MOST)] = LANES_MOST


QUERIES: dict[str, tuple[type[Contract], type[Contract]]] = {"lanes": (LanesQuery, Lanes)}
"""As ``views.QUERIES``."""
