"""Webhooks: who is told of a batch's turns, what is sent, and what became of each delivery.

Deliveries are signed as the Standard Webhooks specification 1.0.0 says: three headers
(``webhook-id``, ``webhook-timestamp``, ``webhook-signature``) and the body as it is sent.
"""

from typing import Annotated, Literal, get_args

from pydantic import AwareDatetime, Field, StrictBool, StringConstraints

from millstream_schemas.commands import Command
from millstream_schemas.envelope import Contract, Counts
from millstream_schemas.errors import ErrorInfo
from millstream_schemas.notes import StuckFinding

WEBHOOKS_MOST = 20
DELIVERIES_KEPT = 50
URL_LENGTH_MAX = 2000

WebhookEvent = Literal[
    "batch.completed",
    "batch.stopped",
    "batch.failed",
    "batch.stuck",
    "batch.unstuck",
    "batch.budget_warned",
    "batch.budget_reached",
]
WEBHOOK_EVENTS: tuple[WebhookEvent, ...] = get_args(WebhookEvent)

Url = Annotated[str, StringConstraints(min_length=1, max_length=URL_LENGTH_MAX)]
Description = Annotated[str, StringConstraints(max_length=200)]
Events = Annotated[tuple[WebhookEvent, ...], Field(min_length=1, max_length=len(WEBHOOK_EVENTS))]


class AddWebhook(Command):
    """Tell an address of batches' turns from now on."""

    url: Url
    events: Events = WEBHOOK_EVENTS
    description: Description = ""


class ChangeWebhook(Command):
    """Change what is given; the rest stays."""

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None
    is_active: StrictBool | None = Field(
        None, description="False: nothing is sent; what happens meanwhile is sent afterwards."
    )


class ReplayWebhook(Command):
    """Deliver once more what happened after a place in the log."""

    after: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = Field(
        description="A stream sequence; 0: from the beginning."
    )


class Delivery(Contract):
    """What became of one message: it is tried until it is taken, or given up."""

    id: str = Field(description="The header webhook-id: equal whenever the same event is sent.")
    sequence: Annotated[int, Field(ge=0)] = Field(description="The event's place in the log.")
    type: str
    batch_id: str | None = None
    state: Literal["delivered", "retrying", "given_up"]
    attempts: Annotated[int, Field(ge=1)]
    first_at: AwareDatetime
    last_at: AwareDatetime
    next_at: AwareDatetime | None = Field(None, description="When it is tried again.")
    status: int | None = Field(None, description="The last answer's HTTP status.")
    error: str = Field("", description="Why the last attempt failed.")
    latency_ms: Annotated[float, Field(ge=0)] = 0.0


class WebhookView(Contract):
    """A webhook without its secret."""

    id: str
    url: str
    events: tuple[WebhookEvent, ...]
    description: str
    is_active: bool
    created_at: AwareDatetime
    created_by: str
    sequence: int = Field(description="Everything up to this place in the log is dealt with.")
    last: Delivery | None = Field(None, description="The delivery that was tried last.")


class WebhookAnswer(Contract):
    """A webhook after it was changed."""

    webhook: WebhookView


class WebhookSecret(Contract):
    """A webhook and the secret that its deliveries are signed with: it is shown this once."""

    webhook: WebhookView
    secret: str


class WebhookList(Contract):
    """All webhooks, oldest first."""

    webhooks: tuple[WebhookView, ...]


class DeliveryList(Contract):
    """The latest deliveries of a webhook, newest first; at most 50 are kept."""

    deliveries: tuple[Delivery, ...]


class WebhookData(Contract):
    """The batch that a message is of, and what its turn says; what does not apply is left out."""

    batch_id: str
    sequence: int
    model: str
    recipe: str
    target: int
    reason: str | None = None
    counts: Counts | None = None
    error: ErrorInfo | None = None
    finding: StuckFinding | None = None
    rule: str | None = Field(None, description="The stuck rule that no longer holds.")
    budget: str | None = None
    used: float | None = Field(None, description="Share of the budget (0..1).")


class WebhookMessage(Contract):
    """The body of a delivery; ``timestamp`` is when the log stored the event."""

    type: WebhookEvent | Literal["ping"]
    timestamp: AwareDatetime
    data: WebhookData | None = None
