"""The part that all events share: CloudEvents field names, the actor, and the kinds of ids."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

BATCH_ID_PATTERN = r"^batch_[0-9]{9,11}_[0-9a-f]{8}$"

EXACT_MOST = 2**53 - 1
"""The greatest whole number that every reader of JSON, browsers too, holds exactly."""

BatchId = Annotated[str, StringConstraints(pattern=BATCH_ID_PATTERN)]
"""``batch_<unix seconds>_<8 hex>``: no dots and no wildcards, so that it can be a subject token."""


def _stopped(value: Any) -> Any:
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return EXACT_MOST if is_whole and value > EXACT_MOST else value


def saturated(known: int | None, more: int | None) -> int:
    """Return a sum that stops at ``EXACT_MOST``; None adds nothing."""
    return min(EXACT_MOST, (known or 0) + (more or 0))


Saturating = BeforeValidator(_stopped)
"""A number above ``EXACT_MOST`` is read as that: a log may hold whatever a provider once told."""

Tokens = Annotated[int, Field(ge=0, le=EXACT_MOST), Saturating]

NanoUsd = Annotated[
    int, Field(ge=0, le=EXACT_MOST, description="Money in 1e-9 US dollars."), Saturating
]
"""Integer money: sums of floats differ between a live fold and a rebuild."""


class Contract(BaseModel):
    """Base of every model of the contract: frozen, and tolerant of fields of a newer writer.

    Infinity and NaN are refused: JSON has no words for them.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Actor(Contract):
    """Who caused an event, and from where; set by the server, never taken from a client."""

    kind: Literal["user", "key", "system", "node"]
    id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    address: Annotated[str, StringConstraints(max_length=100)] | None = Field(
        None, description="The network address that a user's or a key's command came from."
    )


class Event(Contract):
    """An immutable fact in the log.

    ``id``, ``source``, ``subject`` and ``time`` are CloudEvents 1.0 attributes. ``time`` is the
    writer's clock and serves display only: order, age and "at time" come from the stream.
    ``id`` is random per append: a writer whose answer was lost finds its own id in the log.
    An event is caused by a command (``command_id``) or by an earlier event (``causation_id``).
    """

    id: str
    source: str
    subject: str
    time: AwareDatetime
    actor: Actor
    command_id: str | None = None
    causation_id: str | None = None
    schema_version: int = 1


class BatchEvent(Event):
    """An event of one batch."""

    batch_id: BatchId


class Counts(Contract):
    """What became of a batch's slots, and what it cost; the four slot counts add up to the target.

    Tokens and cost cover every attempt, also failed and rejected ones; for calls that a stop
    cancelled they hold an estimate. ``cost_nano_usd`` is None as long as no attempt had a known
    price: unknown is not zero. With ``unpriced_calls`` the cost is more than that.
    """

    generated: Annotated[int, Field(ge=0)] = 0
    failed: Annotated[int, Field(ge=0)] = 0
    abandoned: Annotated[int, Field(ge=0)] = 0
    pending: Annotated[int, Field(ge=0)] = 0
    rejected: Annotated[int, Field(ge=0, description="Attempts refused by validation.")] = 0
    attempts_failed: Annotated[int, Field(ge=0, description="Attempts lost to an error.")] = 0
    tokens_in: Tokens = 0
    tokens_out: Tokens = 0
    cost_nano_usd: NanoUsd | None = None
    wasted_nano_usd: NanoUsd | None = None
    unpriced_calls: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Calls that used tokens at no known price; null: there was none."
    )
    unconfirmed_calls: Annotated[
        int,
        Field(
            ge=0,
            description="Calls that may have been paid and whose use stands in no event: nobody "
            "told it, or a probe asked for another slot's sample in place of its own.",
        ),
    ] = 0

    @property
    def is_unpriced(self) -> bool:
        """Whether the cost is without tokens that were used at no known price."""
        is_unknown = self.cost_nano_usd is None and self.tokens_in + self.tokens_out > 0
        return bool(self.unpriced_calls) or is_unknown
