"""Slice events: what was made, each carrying its slice's whole state after it (the fence)."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from millstream_schemas.control import SLICE_SLOTS_MAX
from millstream_schemas.envelope import BatchEvent, Contract, NanoUsd, Tokens
from millstream_schemas.errors import ErrorCategory, ErrorInfo
from millstream_schemas.recipes import Cell

BITMAP_PATTERN = r"^(0|[1-9a-f][0-9a-f]{0,15})$"

Bitmap = Annotated[str, StringConstraints(pattern=BITMAP_PATTERN)]
"""Up to 64 slots of a slice as lower-case hex without leading zeros, so that equal sets are equal
texts; bit i is slot ``first + i``. Hex, since JSON numbers above 2**53 lose bits in a browser."""


class SliceState(Contract):
    """A slice after an event: enough for a successor to go on from this event alone.

    ``epoch`` counts claims: a rival's epoch means that the lease is lost. ``attempts`` holds
    the attempts used by open slots (offset in the slice, as text, to count). ``node`` is empty
    once its holder gave the slice up in order.
    ``barren_claims`` counts the claims since the last outcome whose holders died at work, and the
    one that is held; ``on_trial`` is the offset of the
    slot that runs alone (the poison rule). ``unconfirmed`` counts calls that may have been paid
    and whose use stands in no event: those of a holder that died, answered probes that asked for
    another slot's sample and, under a budget of cost or tokens, calls that broke off.
    ``unpriced`` counts calls that used tokens at no known price, so that the cost is without
    theirs (None: there was none).
    ``allowance`` is how many calls the lease may still start (None: no budget). ``in_flight`` is
    how many of its calls at most have started, or may start before its next event, and stand in no
    event (None: not counted, so each open slot may have one); it is set while calls wait in line.
    """

    epoch: Annotated[int, Field(ge=0)] = 0
    node: str = ""
    generated: Bitmap = "0"
    failed: Bitmap = "0"
    abandoned: Bitmap = "0"
    attempts: dict[str, int] = {}
    rejected: Annotated[int, Field(ge=0)] = 0
    attempts_failed: Annotated[int, Field(ge=0)] = 0
    tokens_in: Tokens = 0
    tokens_out: Tokens = 0
    cost_nano_usd: NanoUsd | None = None
    wasted_nano_usd: NanoUsd | None = None
    unpriced: Annotated[int, Field(ge=0)] | None = None
    errors: dict[ErrorCategory, int] = {}
    last_error: ErrorInfo | None = None
    barren_claims: Annotated[int, Field(ge=0)] = 0
    on_trial: Annotated[int, Field(ge=0, lt=SLICE_SLOTS_MAX)] | None = None
    unconfirmed: Annotated[int, Field(ge=0)] = 0
    allowance: Annotated[int, Field(ge=0)] | None = None
    in_flight: Annotated[int, Field(ge=0)] | None = None
    closed: bool = False


class SliceEvent(BatchEvent):
    """An event of one slice, appended with compare-and-set on the slice's subject."""

    slice: Annotated[int, Field(ge=0)]
    after: SliceState


class Usage(Contract):
    """What one call used; None where the provider did not say."""

    tokens_in: Tokens | None = None
    tokens_out: Tokens | None = None
    cost_nano_usd: NanoUsd | None = None
    latency_ms: Annotated[float, Field(ge=0)] | None = None
    first_token_ms: Annotated[float, Field(ge=0)] | None = None

    @property
    def is_unpriced(self) -> bool:
        """Whether the call used tokens at no known price."""
        return self.cost_nano_usd is None and bool(self.tokens_in or self.tokens_out)


class AttemptEvent(SliceEvent):
    """An event about one LLM call for one slot."""

    slot: Annotated[int, Field(ge=0)]
    attempt: Annotated[int, Field(ge=1)]
    cell: Cell
    model: str
    provider: str
    route: str | None = Field(
        None,
        description="The key under which /v1/routes tells of the route that was tried. Null: no "
        "call is behind the event, or it is older than this field.",
    )
    usage: Usage = Usage()
    request_id: str | None = None
    prompt_hash: str | None = None
    wait_s: Annotated[float, Field(ge=0)] | None = Field(
        None, description="How long the call waited for limits and for its route; null: not at all."
    )


class SliceClaimed(SliceEvent):
    """A node leased the slice; no call of this lease starts before this event is stored."""

    type: Literal["slice.claimed.v1"] = "slice.claimed.v1"
    rescue_of: str | None = Field(None, description="The node whose lease had run out.")
    holder_lives: bool | None = Field(
        None,
        description="Whether that node still lived: then its claim counts as no death. Null: the "
        "slice was held by nobody, or the claim is older than this field.",
    )


class SliceReleased(SliceEvent):
    """A holder gave the slice up in order: no call of its lease is in flight any more."""

    type: Literal["slice.released.v1"] = "slice.released.v1"
    reason: Annotated[str, StringConstraints(max_length=200)] = ""


class SlotOnTrial(SliceEvent):
    """One slot runs alone in a slice that nodes died on: if this one dies too, it was the slot."""

    type: Literal["slice.slot_on_trial.v1"] = "slice.slot_on_trial.v1"
    slot: Annotated[int, Field(ge=0)]


class CallsAnnounced(SliceEvent):
    """More calls of the lease may start, where none may that ``after.in_flight`` does not count."""

    type: Literal["slice.calls_announced.v1"] = "slice.calls_announced.v1"


class SampleGenerated(AttemptEvent):
    """An answer passed validation: the outcome of its slot, never reversed."""

    type: Literal["sample.generated.v1"] = "sample.generated.v1"
    content: dict[str, Any]
    finish_reason: str | None = None


class SampleAttemptFailed(AttemptEvent):
    """A call failed; the slot is tried again unless a SampleFailed follows."""

    type: Literal["sample.attempt_failed.v1"] = "sample.attempt_failed.v1"
    category: ErrorCategory
    message: Annotated[str, StringConstraints(max_length=2000)]
    status_code: int | None = None
    retry_in_s: Annotated[float, Field(ge=0)] | None = None


class SampleRejected(AttemptEvent):
    """An answer came but failed validation; kept with its reason."""

    type: Literal["sample.rejected.v1"] = "sample.rejected.v1"
    rule: str
    message: Annotated[str, StringConstraints(max_length=2000)]
    answer: Annotated[str, StringConstraints(max_length=20_000)] = ""
    finish_reason: str | None = None


class SampleFailed(AttemptEvent):
    """The slot used up its attempts (or met an error that is never retried): its outcome."""

    type: Literal["sample.failed.v1"] = "sample.failed.v1"
    category: ErrorCategory
    message: Annotated[str, StringConstraints(max_length=2000)]


class SampleAbandoned(AttemptEvent):
    """A call was cancelled by a stop; ``usage`` is an estimate from its prompt and what came."""

    type: Literal["sample.abandoned.v1"] = "sample.abandoned.v1"
    estimated: bool = True


class SliceClosed(SliceEvent):
    """The stop fence closed the slice: its open slots are abandoned, no lease can write to it."""

    type: Literal["slice.closed.v1"] = "slice.closed.v1"


def bits(bitmap: str) -> int:
    """Return the integer whose bit i stands for offset i of a slice."""
    return int(bitmap, 16)


def bitmap(value: int) -> str:
    """Return ``value`` (0 <= value < 2**64) as a bitmap."""
    if not 0 <= value < 1 << SLICE_SLOTS_MAX:
        raise ValueError(f"bitmap {value} is outside 64 bits")
    return f"{value:x}"
