"""Answers about batches: what /v1 returns, the relay sends and the projector computes.

Every answer of the projector carries ``as_of``, the stream sequence up to which it is true.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import AwareDatetime, Field

from millstream_schemas.control import Budgets, Priority
from millstream_schemas.envelope import Contract, Counts
from millstream_schemas.errors import ErrorCategory, ErrorInfo
from millstream_schemas.events import EventType
from millstream_schemas.limited import LimitedBy
from millstream_schemas.notes import HeldUp, StuckFinding
from millstream_schemas.slices import Usage
from millstream_schemas.sums import Facets, LiveSums, Tally

State = Literal["queued", "running", "paused", "stopping", "stopped", "completed", "failed"]
STATES: tuple[State, ...] = get_args(State)
FINAL_STATES: frozenset[State] = frozenset({"stopped", "completed", "failed"})


class BatchView(Contract):
    """One batch, as of stream sequence ``sequence`` (its last change).

    ``version`` is the last control sequence: what If-Match compares.
    ``finished_at`` is null while the batch lives. Times are stream times in UTC.
    """

    id: str
    dataset_id: str
    parent_id: str | None = None
    state: State
    model: str
    provider: str
    recipe: str
    recipe_hash: str
    target: int
    counts: Counts
    concurrency: int
    slice_size: int
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    priority: Priority = "normal"
    pool: str = Field("default", description="Whose generators make it.")
    topic: str | None = None
    difficulty: str | None = None
    sample_type: str | None = None
    instruction: str | None = None
    smart_mode: bool = False
    started_by: str = ""
    started_at: datetime
    last_progress_at: datetime | None = None
    finished_at: datetime | None = None
    stop_reason: str | None = None
    stopped_by: str | None = None
    error: ErrorInfo | None = Field(None, description="Why the batch failed.")
    last_error: ErrorInfo | None = Field(None, description="The latest error of any attempt.")
    errors: dict[ErrorCategory, int] = {}
    stuck: StuckFinding | None = None
    held_up: HeldUp | None = Field(None, description="A provider lets the batch wait.")
    budgets: Budgets = Budgets()
    budgets_warned: tuple[str, ...] = Field((), description="Budgets used to 80 % or more.")
    retry_id: str | None = Field(None, description="The batch that makes its failed samples alone.")
    child_id: str | None = Field(
        None, description="The batch that makes what this one, and a retry of it, left."
    )
    anomalies: int = Field(0, description="Events that broke an invariant; must be 0.")
    version: int
    sequence: int


class BatchPage(Contract):
    """A page of batches; ``states`` counts every state, ``facets`` the most frequent values."""

    batches: tuple[BatchView, ...]
    next_cursor: str | None = None
    total: int
    states: dict[str, int] = {}
    facets: Facets = {}
    limited: dict[str, LimitedBy] = Field({}, description="By id, as `limited_by` of one batch.")
    as_of: int


class BatchAnswer(Contract):
    """One batch; ``limited_by`` is no fact of the log, but what the generators say just now."""

    batch: BatchView
    limited_by: LimitedBy | None = Field(None, description="What lets its calls wait, if they do.")
    as_of: int


class SampleView(Contract):
    """One accepted sample."""

    id: str = Field(description="`<batch id>-<slot>`.")
    batch_id: str
    slot: int
    attempt: int
    topic: str
    area: str
    difficulty: str
    sample_type: str
    model: str
    provider: str
    route: str | None = Field(None, description="Its key in /v1/routes; null: not known.")
    content: dict[str, Any]
    usage: Usage
    created_at: datetime
    sequence: int


class SamplePage(Contract):
    """A page of samples as sorted; ``facets`` only where they were asked for."""

    samples: tuple[SampleView, ...]
    next_cursor: str | None = None
    total: int
    facets: Facets = {}
    as_of: int


class EventView(Contract):
    """One stored event: its sequence, the stream's time and the payload as stored."""

    sequence: int
    stored_at: datetime
    subject: str
    event: dict[str, Any]


class EventPage(Contract):
    """Events of one batch in stream order; ``after`` its ``next_cursor`` there may be more."""

    events: tuple[EventView, ...]
    next_cursor: str | None = None
    as_of: int


class Statistics(Contract):
    """The whole dataset in numbers.

    The cost is without tokens of unknown price (``unpriced_batches``); ``live`` still moves.
    """

    total: int
    batches: int
    states: dict[str, int]
    difficulties: tuple[Tally, ...]
    topics: tuple[Tally, ...]
    sample_types: tuple[Tally, ...]
    models: tuple[Tally, ...]
    average_lengths: dict[str, float]
    unique_topics: int
    tokens_in: int
    tokens_out: int
    cost_nano_usd: int | None
    unpriced_batches: int = 0
    live: LiveSums | None = None
    as_of: int


class StuckAnswer(Contract):
    """The batches that a watchdog holds for stuck; reading it changes nothing."""

    batches: tuple[BatchView, ...]
    as_of: int


class Quality(Contract):
    """How the samples of one batch look; lengths in characters."""

    batch_id: str
    total_samples: int
    total_tokens: int
    average_tokens: float
    average_lengths: dict[str, float]
    difficulties: dict[str, int]
    topics: dict[str, int]
    sample_types: dict[str, int]
    rejected: int
    failed: int
    as_of: int


class QueryError(Contract):
    """A query that could not be answered."""

    code: Literal["not_found", "invalid", "behind", "busy", "failed"]
    message: str


class Query(Contract):
    """What every question may say: as of when its answer must be true.

    ``min_sequence``: answer only once everything up to it is folded, so that who wrote at that
    sequence reads it, whichever replica answers. ``at_seq`` and ``at_time``, of which one may be
    given, ask for the past: as if the log had ended at that sequence, or with the last event
    that the stream had stored by that time.
    """

    min_sequence: Annotated[int, Field(ge=0, lt=2**63)] = 0
    at_seq: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    at_time: AwareDatetime | None = None

    @property
    def is_past(self) -> bool:
        """Whether the question is about a moment that is named, not about the present."""
        return self.at_seq is not None or self.at_time is not None


class BatchQuery(Query):
    """Ask for one batch."""

    batch_id: str


Sort = Literal[
    "-started",
    "started",
    "-finished",
    "finished",
    "-progress",
    "progress",
    "-cost",
    "cost",
    "-samples",
    "samples",
]
"""A minus puts the largest first. What has no such value yet (no end, no known cost) comes last."""


class HistoryQuery(Query):
    """Ask for a page of batches; ``text`` is looked for in id, model, recipe and topic."""

    states: tuple[State, ...] = ()
    model: str | None = None
    recipe: str | None = None
    topic: str | None = None
    text: str | None = None
    started_after: AwareDatetime | None = Field(None, description="Not before this moment.")
    started_before: AwareDatetime | None = Field(None, description="Before this moment.")
    sort: Sort = "-started"
    cursor: str | None = None
    limit: Annotated[int, Field(ge=1, le=10_000)] = 50


SampleSort = Literal["stored", "-stored"]  # as they were stored, or the latest first


class SamplesQuery(Query):
    """Ask for a page of samples, of one batch or of all; ``topic`` is its label (area - topic)."""

    batch_id: str | None = None
    text: str | None = None
    topic: str | None = None
    difficulty: str | None = None
    sample_type: str | None = None
    model: str | None = None
    sort: SampleSort = "stored"
    with_facets: bool = False
    cursor: str | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 50


EventKind = Literal["control", "note"]  # few, however many samples a batch has


class EventsQuery(Query):
    """Ask for stored events of one batch after a sequence, of all types or of some."""

    batch_id: str
    kind: EventKind | None = None
    types: tuple[EventType, ...] = ()
    after: int = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class PlainQuery(Query):
    """Ask for something about everything."""


QUERIES: dict[str, tuple[type[Contract], type[Contract]]] = {
    "history": (HistoryQuery, BatchPage),
    "batch": (BatchQuery, BatchAnswer),
    "samples": (SamplesQuery, SamplePage),
    "events": (EventsQuery, EventPage),
    "statistics": (PlainQuery, Statistics),
    "stuck": (PlainQuery, StuckAnswer),
    "quality": (BatchQuery, Quality),
}
"""Query name -> (request, answer); an error is a QueryError under header ``Millstream-Error``."""
