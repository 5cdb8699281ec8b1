"""Answers that look closer: one batch in figures, a slot's attempts, the log over time.

Whatever is not known is null, never 0: a rate before any time has passed, a cost without a price.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from millstream_schemas.envelope import Contract
from millstream_schemas.errors import ErrorCategory
from millstream_schemas.slices import Usage
from millstream_schemas.views import Query, SampleView

Bucket = Literal["auto", "second", "minute", "hour", "day"]
Split = Literal["model", "provider"]
AttemptKind = Literal["generated", "attempt_failed", "rejected", "failed", "abandoned", "uncounted"]


class Percentiles(Contract):
    """Milliseconds that 50, 95 and 99 % of them took at most; null when none is known."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class Rates(Contract):
    """How fast a batch goes, in samples per second.

    ``last_minute`` is null once the batch has ended; ``overall`` is over the time since the first
    slice was claimed, up to the end or to now.
    """

    last_minute: float | None = None
    overall: float | None = None


class Cost(Contract):
    """Money in 1e-9 US dollars; all null while no call had a known price.

    ``projected`` is what the whole batch will have cost when it goes on as it went so far.
    """

    spent_nano_usd: int | None = None
    wasted_nano_usd: int | None = None
    projected_nano_usd: int | None = None
    per_sample_nano_usd: int | None = None


class AttemptPlace(Contract):
    """Where an attempt stands: its slot, its number there, and its sequence in the log."""

    slot: int
    attempt: int
    sequence: int


class ErrorGroup(Contract):
    """Errors that differ only in numbers, ids, addresses and quoted texts.

    ``message`` has placeholders in their stead and ``fingerprint`` names it; ``example`` is the
    latest one as it was. ``failed_slots`` of the slots were given up with such an error, of which
    ``given_up`` names the first 20.
    """

    fingerprint: str
    category: ErrorCategory
    rule: str | None = Field(None, description="The rule that refused the answer.")
    message: str
    count: int
    failed_slots: int
    given_up: tuple[int, ...] = ()
    first_seen: datetime
    last_seen: datetime
    example: str
    example_at: AttemptPlace


class Figures(Contract):
    """One batch in figures; ``eta_s`` counts from ``at``, the moment that they are of."""

    batch_id: str
    at: datetime
    rates: Rates
    eta_s: float | None = Field(None, description="Null unless the batch runs and moves.")
    eta_at: datetime | None = None
    cost: Cost
    latency_ms: Percentiles
    first_token_ms: Percentiles
    errors: tuple[ErrorGroup, ...]
    error_groups: int = Field(description="How many groups there are; `errors` has the largest.")
    as_of: int


class AttemptView(Contract):
    """One event about a slot: a call and what came of it, or the slot's end.

    ``kind`` ``failed`` is no call: it says that the slot was given up after the calls before it.
    ``uncounted`` is an outcome that came late or twice.
    """

    sequence: int
    stored_at: datetime
    kind: AttemptKind
    slot: int
    attempt: int
    node: str | None = None
    model: str
    provider: str
    route: str | None = Field(None, description="Its key in /v1/routes; null: not known.")
    category: ErrorCategory | None = None
    rule: str | None = None
    message: str | None = None
    answer: str | None = None
    status_code: int | None = None
    finish_reason: str | None = None
    usage: Usage
    address: str | None = Field(
        None, description="Where that route leads; null: litellm decided it, or it is not known."
    )
    wait_s: float | None = Field(None, description="How long it waited for limits; null: not.")
    request_id: str | None = None
    prompt_hash: str | None = None


class SlotAttempts(Contract):
    """Everything that happened to one slot, in order, and how it ended.

    ``outcome`` is ``pending`` while the slot is open, ``sample`` is what it gave.
    """

    batch_id: str
    slot: int
    slice_index: int = Field(description="Its events stand under the subject of this slice.")
    topic: str | None = None
    difficulty: str | None = None
    sample_type: str | None = None
    outcome: Literal["generated", "failed", "abandoned", "pending"]
    attempts: tuple[AttemptView, ...]
    more: bool = Field(False, description="There were more than an answer holds.")
    sample: SampleView | None = None
    as_of: int


class TimelineRow(Contract):
    """What one model of one provider did in the bucket that begins at ``start``.

    ``model`` is null where all models of a provider were asked for together: percentiles of
    several models can't be told from those of each.
    ``attempts`` are calls that ended: samples, ``failures`` (errors and refused answers), calls
    cut off by a stop and answers that came late. Latencies are those of samples. The rate is over
    the bucket; over the part that had passed (5 s at least) of one that was not over at the moment
    of the answer.
    """

    start: datetime
    model: str | None
    provider: str
    attempts: int
    samples: int
    failures: int
    failed_slots: int
    failure_ratio: float | None
    samples_per_s: float
    tokens_in: int | None
    tokens_out: int | None
    cost_nano_usd: int | None
    latency_ms: Percentiles


class FirstSampleRow(Contract):
    """How long batches took from their start to their first sample, waiting in line included.

    It is a batch's model and provider that made that sample; ``model`` is null as in TimelineRow.
    A batch that has no sample yet is not counted.
    """

    model: str | None
    provider: str
    batches: int
    first_sample_ms: Percentiles


class Timeline(Contract):
    """Statistics over buckets of ``bucket_s`` seconds, empty ones left out.

    The range is widened to whole buckets: from ``start`` up to, not including, ``end``.
    ``first_samples`` is over all of it: of batches whose first sample was stored in the range.
    Costs are sums of what is known: ``unpriced_batches`` made samples in that time and used tokens
    of unknown price, for all of their calls or for some.
    """

    bucket: Literal["second", "minute", "hour", "day"]
    bucket_s: int
    start: datetime | None
    end: datetime | None
    rows: tuple[TimelineRow, ...]
    first_samples: tuple[FirstSampleRow, ...] = ()
    unpriced_batches: int = 0
    as_of: int


class FiguresQuery(Query):
    """Ask for one batch in figures."""

    batch_id: str
    errors: Annotated[int, Field(ge=0, le=200, description="At most so many groups.")] = 20


class SlotQuery(Query):
    """Ask for the attempts of one slot."""

    batch_id: str
    slot: Annotated[int, Field(ge=0, lt=2**31)]


class TimelineQuery(Query):
    """Ask for statistics over time; without ``start`` and ``end``: all that there is."""

    start: AwareDatetime | None = None
    end: AwareDatetime | None = None
    bucket: Bucket = "auto"
    by: Split = "model"
    model: str | None = None
    provider: str | None = None
    batch_id: str | None = None


class SearchQuery(Query):
    """Ask for one step of a search in the texts of all samples, upper and lower case alike."""

    text: Annotated[str, Field(min_length=1, max_length=200)]
    topic: str | None = None
    difficulty: str | None = None
    sample_type: str | None = None
    model: str | None = None
    cursor: str | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50


class SearchPage(Contract):
    """What one step of a search has found, the latest first; often nothing.

    ``next_cursor`` goes on with it, null once it has come to the log's beginning; ``progress`` is
    how much of the log it has looked through, 0 to 1. Samples that were stored after the first
    step are not looked at.
    """

    samples: tuple[SampleView, ...]
    next_cursor: str | None = None
    progress: Annotated[float, Field(ge=0, le=1)]
    as_of: int


QUERIES: dict[str, tuple[type[Contract], type[Contract]]] = {
    "figures": (FiguresQuery, Figures),
    "attempts": (SlotQuery, SlotAttempts),
    "timeline": (TimelineQuery, Timeline),
    "search": (SearchQuery, SearchPage),
}
"""As ``views.QUERIES``."""
