"""Control events: the life of a batch, appended with compare-and-set on the control subject."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from millstream_schemas.envelope import BatchEvent, BatchId, Contract, Counts
from millstream_schemas.errors import ErrorInfo
from millstream_schemas.recipes import PinnedRecipe
from millstream_schemas.routes import ModelName, Route

Priority = Literal["high", "normal", "low"]
StopMode = Literal["cancel", "drain"]
PoolName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,32}$")]
"""Of generators that take work of their own: it stands in subjects and in consumers' names."""
Reason = Annotated[str, StringConstraints(max_length=500)]

TARGET_MAX = 1_000_000
SLICE_SLOTS_MAX = 64


class Budgets(Contract):
    """Bounds on what a batch may use; None: no bound. Reaching one stops the batch.

    Cost and tokens are reserved for the worst case before any call, so they are never overshot.
    ``max_failure_ratio`` is failed over all outcomes and holds from the twentieth outcome on;
    ``max_attempts`` counts the calls of the whole batch.
    """

    max_cost_nano_usd: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_duration_s: Annotated[float, Field(gt=0, le=31_536_000)] | None = None
    max_failure_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    max_attempts: Annotated[int, Field(ge=1)] | None = None

    @property
    def bounds_calls(self) -> bool:
        """Whether a call needs a grant before it starts."""
        return self.bounds_use or self.max_attempts is not None

    @property
    def bounds_use(self) -> bool:
        """Whether it matters what a call has used."""
        return (self.max_cost_nano_usd, self.max_tokens) != (None, None)


class CellQuota(Contract):
    """How many slots of a child batch one cell gets; ``cell`` counts in the plan's order."""

    cell: Annotated[int, Field(ge=0)]
    count: Annotated[int, Field(ge=1)]


class BatchSpec(Contract):
    """Everything that decides what a batch makes; pinned at the start, never changed."""

    recipe: PinnedRecipe
    model: ModelName
    routes: Annotated[tuple[Route, ...], Field(min_length=1)]
    target: Annotated[int, Field(ge=1, le=TARGET_MAX)]
    slice_size: Annotated[int, Field(ge=1, le=SLICE_SLOTS_MAX)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    plan_version: Literal[1] = 1
    concurrency: Annotated[int, Field(ge=1, le=4096)]
    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    priority: Priority = "normal"
    pool: PoolName = "default"
    topic: str | None = None
    difficulty: str | None = None
    sample_type: str | None = None
    instruction: Annotated[str, StringConstraints(max_length=4000)] | None = None
    smart_mode: bool = False
    budgets: Budgets = Budgets()
    quotas: tuple[CellQuota, ...] | None = Field(
        None, description="The cells that a parent left open; null: shared out by the weights."
    )

    @property
    def slices(self) -> int:
        """How many slices the slots are cut into."""
        return -(-self.target // self.slice_size)

    def slots(self, slice_index: int) -> range:
        """Return the slots of slice ``slice_index`` (0-based)."""
        first = slice_index * self.slice_size
        return range(first, min(first + self.slice_size, self.target))


class BatchStarted(BatchEvent):
    """A batch was asked for; it waits for its first slice to be claimed."""

    type: Literal["batch.started.v1"] = "batch.started.v1"
    spec: BatchSpec
    dataset_id: str
    parent_id: BatchId | None = None
    reason: Reason = ""


class BatchPaused(BatchEvent):
    """No new call starts until the batch is resumed; calls in flight finish."""

    type: Literal["batch.paused.v1"] = "batch.paused.v1"
    reason: Reason = ""


class BatchResumed(BatchEvent):
    """A paused batch goes on."""

    type: Literal["batch.resumed.v1"] = "batch.resumed.v1"
    reason: Reason = ""


class BatchPriorityChanged(BatchEvent):
    """Slices queued from here on wait in another line."""

    type: Literal["batch.priority_changed.v1"] = "batch.priority_changed.v1"
    priority: Priority
    reason: Reason = ""


class BatchStopRequested(BatchEvent):
    """From here on no call may start; the fence closes every open slice.

    A draining stop lets calls in flight finish up to ``bound_at``; a cancelling one may follow
    it. ``error`` is set when a failure, not a person, ends the batch: it then becomes failed.
    """

    type: Literal["batch.stop_requested.v1"] = "batch.stop_requested.v1"
    mode: StopMode = "cancel"
    reason: Reason = ""
    bound_at: AwareDatetime | None = None
    error: ErrorInfo | None = None


class BatchStopped(BatchEvent):
    """The batch was stopped; ``counts`` are the fold at this event's own sequence."""

    type: Literal["batch.stopped.v1"] = "batch.stopped.v1"
    counts: Counts


class BatchCompleted(BatchEvent):
    """Every slot has an outcome; ``counts`` are the fold at this event's own sequence."""

    type: Literal["batch.completed.v1"] = "batch.completed.v1"
    counts: Counts


class BatchFailed(BatchEvent):
    """The batch can't go on; ``counts`` are the fold at this event's own sequence."""

    type: Literal["batch.failed.v1"] = "batch.failed.v1"
    error: ErrorInfo
    counts: Counts
