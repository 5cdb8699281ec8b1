"""What a user may ask of a batch, as the bodies of /v1 and as input of ``decide``."""

from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from millstream_schemas.control import TARGET_MAX, PoolName, Priority, Reason, StopMode
from millstream_schemas.envelope import BatchId
from millstream_schemas.views import State

BULK_MOST = 1000

RecipeName = Annotated[str, StringConstraints(max_length=64)]
ModelWords = Annotated[str, StringConstraints(max_length=200)]
ProviderName = Annotated[str, StringConstraints(max_length=64)]
Target = Annotated[int, Field(ge=1, le=TARGET_MAX, strict=True)]
Concurrency = Annotated[int, Field(ge=1, le=4096, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
Attempts = Annotated[int, Field(ge=1, le=20, strict=True)]
TopicWords = Annotated[str, StringConstraints(max_length=320)]
ChoiceWords = Annotated[str, StringConstraints(max_length=64)]
Instruction = Annotated[str, StringConstraints(max_length=4000)]


def _of_a_drain(grace_s: float, info: ValidationInfo) -> float:
    """Refuse a grace that nobody would wait for."""
    if info.data.get("action", "stop") == "stop" and info.data.get("mode") == "cancel":
        raise ValueError(
            'a cancelling stop waits for no call: add "mode": "drain", or leave grace_s out'
        )
    return grace_s


Grace = Annotated[float, Field(ge=0, le=600, strict=True), AfterValidator(_of_a_drain)]


class Command(BaseModel):
    """A request to change something; unknown fields are refused, so a typo can't pass silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class BudgetsAsked(Command):
    """Bounds on what a batch may use; reaching one stops the batch."""

    max_cost_usd: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False, strict=True)] | None = (
        Field(None, description="Rounded down to 1e-9 US dollars; every route needs a known price.")
    )
    max_tokens: Annotated[int, Field(ge=1, le=10**15, strict=True)] | None = None
    max_duration_s: Annotated[float, Field(gt=0, le=31_536_000, strict=True)] | None = None
    max_failure_ratio: Annotated[float, Field(ge=0, le=1, strict=True)] | None = Field(
        None, description="Failed over all outcomes; holds from the twentieth outcome on."
    )
    max_attempts: Annotated[int, Field(ge=1, le=10**9, strict=True)] | None = Field(
        None, description="Calls of the whole batch."
    )


class StartBatch(Command):
    """Start a batch of ``target`` samples; what is left out takes the server's default."""

    recipe: RecipeName | None = None
    model: ModelWords | None = Field(
        None, description="A model alias or `provider/model`; null or `auto`: the default."
    )
    provider: ProviderName | None = None
    target: Target
    concurrency: Concurrency | None = None
    seed: Seed | None = None
    max_attempts: Attempts = 3
    priority: Priority = "normal"
    pool: PoolName | None = Field(None, description="Whose generators make it; null: the server's.")
    topic: TopicWords | None = None
    difficulty: ChoiceWords | None = None
    sample_type: ChoiceWords | None = None
    instruction: Instruction | None = None
    smart_mode: StrictBool = False
    budgets: BudgetsAsked = BudgetsAsked()
    reason: Reason = ""


class StopBatch(Command):
    """Stop a batch: cancel calls in flight, or let them finish (drain) for ``grace_s`` seconds."""

    mode: StopMode = "cancel"
    grace_s: Grace = Field(30.0, description="How long a draining stop waits for calls in flight.")
    reason: Reason = ""


class PauseBatch(Command):
    """Start no new call until resumed."""

    reason: Reason = ""


class ResumeBatch(Command):
    """Let a paused batch go on."""

    reason: Reason = ""


class SetPriority(Command):
    """Let the slices that are queued from now on wait in another line."""

    priority: Priority
    reason: Reason = ""


class RefillOverrides(Command):
    """What a child does otherwise than its parent; what is left out is as it was there."""

    model: ModelWords | None = None
    provider: ProviderName | None = None
    concurrency: Concurrency | None = None
    seed: Seed | None = Field(None, description="Null: a new one, so that no call is repeated.")
    max_attempts: Attempts | None = None
    priority: Priority | None = None
    pool: PoolName | None = None
    budgets: BudgetsAsked | None = Field(
        None, description="In place of the parent's; a child has its own, used by nobody yet."
    )


class RefillBatch(Command):
    """Let a child of the same dataset make what an ended batch left open."""

    overrides: RefillOverrides = RefillOverrides()
    reason: Reason = ""


class CloneOverrides(RefillOverrides):
    """What a clone does otherwise; a null topic, difficulty, type or instruction lifts it."""

    target: Target | None = None
    recipe: RecipeName | None = Field(
        None, description="Null: the recipe as the batch pinned it, also when its file has gone."
    )
    topic: TopicWords | None = None
    difficulty: ChoiceWords | None = None
    sample_type: ChoiceWords | None = None
    instruction: Instruction | None = None
    smart_mode: StrictBool | None = None


class CloneBatch(Command):
    """Start a batch like another one, as a dataset of its own."""

    overrides: CloneOverrides = CloneOverrides()
    reason: Reason = ""


def _spelled(action: object) -> object:
    """Take the spelling of the path, too."""
    return "retry_failed" if action == "retry-failed" else action


BulkAction = Literal["stop", "pause", "resume", "retry_failed", "continue", "priority"]
AnyBulkAction = Annotated[
    BulkAction,
    BeforeValidator(_spelled),
    WithJsonSchema({"enum": [*get_args(BulkAction), "retry-failed"], "type": "string"}),
]


class BulkFilter(Command):
    """Which batches a bulk command is for: those that meet all of the criteria given.

    Without ``states``: those in which the action can change something.
    """

    states: Annotated[tuple[State, ...], Field(max_length=7)] = ()
    model: ModelWords | None = None
    recipe: RecipeName | None = None
    text: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.model_dump(exclude_defaults=True):
            raise ValueError("name at least one of states, model, recipe and text")
        return self


class BulkCommand(Command):
    """Do the same to many batches, at most 1,000; the answer tells each one's outcome.

    ``mode`` and ``grace_s`` belong to stop, ``priority`` to priority. ``dry_run`` changes nothing.
    """

    action: AnyBulkAction = "stop"
    ids: Annotated[tuple[BatchId, ...], Field(min_length=1, max_length=BULK_MOST)] | None = None
    filter: BulkFilter | None = Field(
        None, description="In place of `ids`; 413 when more than 1,000 batches meet it."
    )
    mode: StopMode = "cancel"
    grace_s: Grace = 30.0
    priority: Priority | None = None
    reason: Reason = ""
    dry_run: StrictBool = False

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if (self.ids is None) == (self.filter is None):
            raise ValueError("give either ids or filter")
        if (self.priority is None) == (self.action == "priority"):
            raise ValueError("give priority with the action priority, and with no other")
        given = {"mode", "grace_s"} & self.model_fields_set
        if given and self.action != "stop":
            raise ValueError(f"{' and '.join(sorted(given))} go with the action stop alone")
        return self


BatchCommand = StopBatch | PauseBatch | ResumeBatch | SetPriority
RefillKind = Literal["retry_failed", "continue"]
