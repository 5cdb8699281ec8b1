"""What a user may ask of a batch, as the bodies of /v1 and as input of ``decide``."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from millstream_schemas.control import TARGET_MAX, Priority, Reason, StopMode
from millstream_schemas.envelope import BatchId


class Command(BaseModel):
    """A request to change something; unknown fields are refused, so a typo can't pass silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class StartBatch(Command):
    """Start a batch of ``target`` samples; what is left out takes the server's default."""

    recipe: Annotated[str, StringConstraints(max_length=64)] | None = None
    model: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        None, description="A model alias or `provider/model`; null or `auto`: the default."
    )
    provider: Annotated[str, StringConstraints(max_length=64)] | None = None
    target: Annotated[int, Field(ge=1, le=TARGET_MAX, strict=True)]
    concurrency: Annotated[int, Field(ge=1, le=4096, strict=True)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] | None = None
    max_attempts: Annotated[int, Field(ge=1, le=20, strict=True)] = 3
    priority: Priority = "normal"
    topic: Annotated[str, StringConstraints(max_length=320)] | None = None
    difficulty: Annotated[str, StringConstraints(max_length=64)] | None = None
    sample_type: Annotated[str, StringConstraints(max_length=64)] | None = None
    instruction: Annotated[str, StringConstraints(max_length=4000)] | None = None
    smart_mode: bool = False


class StopBatch(Command):
    """Stop a batch: cancel calls in flight, or let them finish (drain)."""

    mode: StopMode = "cancel"
    reason: Reason = ""


class PauseBatch(Command):
    """Start no new call until resumed."""

    reason: Reason = ""


class ResumeBatch(Command):
    """Let a paused batch go on."""

    reason: Reason = ""


class BulkStop(Command):
    """Stop exactly these batches; the answer tells each one's outcome."""

    action: Literal["stop"] = "stop"
    ids: Annotated[tuple[BatchId, ...], Field(min_length=1, max_length=1000)]
    mode: StopMode = "cancel"
    reason: Reason = ""


BatchCommand = StopBatch | PauseBatch | ResumeBatch
