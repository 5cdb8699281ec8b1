"""What is kept of webhooks: one document lists them, one per webhook says how far it is.

Every write is a compare-and-set, so two APIs never overwrite each other's.
"""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from pydantic import AwareDatetime, ValidationError

from millstream.errors import ConflictError, LogError
from millstream.eventlog.buckets import Bucket
from millstream_schemas.envelope import Contract
from millstream_schemas.webhooks import DELIVERIES_KEPT, Delivery, WebhookEvent, WebhookView

BOOK = "book"
CONFLICTS_MOST = 10

DocumentT = TypeVar("DocumentT", bound=Contract)


class Webhook(Contract):
    """A webhook with its secrets; the one before the last still signs until ``former_until``."""

    id: str
    url: str
    events: tuple[WebhookEvent, ...]
    description: str = ""
    is_active: bool = True
    created_at: AwareDatetime
    created_by: str
    secret: str
    secret_key: str | None = None
    former_secret: str | None = None
    former_until: AwareDatetime | None = None

    def secrets(self, now: datetime) -> tuple[str, ...]:
        """Return the secrets that sign at ``now``."""
        if self.former_secret is None or self.former_until is None or now >= self.former_until:
            return (self.secret,)
        return (self.secret, self.former_secret)


class Book(Contract):
    """All webhooks, oldest first."""

    webhooks: tuple[Webhook, ...] = ()

    def find(self, webhook_id: str) -> Webhook | None:
        """Return a webhook, None when there is none of this id."""
        return next((one for one in self.webhooks if one.id == webhook_id), None)

    def replaced(self, webhook: Webhook) -> "Book":
        """Return the book with another version of a webhook."""
        kept = tuple(webhook if one.id == webhook.id else one for one in self.webhooks)
        return Book(webhooks=kept)

    def without(self, webhook_id: str) -> "Book":
        """Return the book without a webhook."""
        return Book(webhooks=tuple(one for one in self.webhooks if one.id != webhook_id))


class Progress(Contract):
    """How far a webhook is in the stream ``epoch``, and its latest deliveries, oldest first.

    Everything up to ``sequence`` is delivered, given up, or nothing that it asks for.
    """

    epoch: str
    sequence: int
    deliveries: tuple[Delivery, ...] = ()

    @property
    def last(self) -> Delivery | None:
        """The delivery that was tried last."""
        return self.deliveries[-1] if self.deliveries else None

    @property
    def retrying(self) -> Delivery | None:
        """The delivery that is tried again: nothing after it is sent before."""
        last = self.last
        return last if last is not None and last.state == "retrying" else None

    def passed(self, sequence: int) -> "Progress":
        """Return the progress past events that the webhook does not ask for."""
        return self.model_copy(update={"sequence": sequence})

    def noted(self, delivery: Delivery) -> "Progress":
        """Return the progress after an attempt, which takes the place of the one before it."""
        kept = self.deliveries[:-1] if self.retrying is not None else self.deliveries
        is_settled = delivery.state != "retrying"
        return Progress(
            epoch=self.epoch,
            sequence=delivery.sequence if is_settled else self.sequence,
            deliveries=(*kept, delivery)[-DELIVERIES_KEPT:],
        )

    def rewound(self, sequence: int) -> "Progress":
        """Return the progress at ``sequence``; what was being retried is left to the replay."""
        kept = self.deliveries[:-1] if self.retrying is not None else self.deliveries
        return self.model_copy(update={"sequence": sequence, "deliveries": kept})


class WebhookStore:
    """Reads and writes both kinds of documents.

    Every method raises LogUnavailableError without an answer, and LogError for a document that
    this version can't read.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    async def book(self) -> tuple[Book, int]:
        """Return all webhooks, and the revision that a change must replace."""
        entry = await self.bucket.get(BOOK)
        if entry is None:
            return Book(), 0
        return _read(Book, entry.value), entry.revision

    async def change(self, edit: Callable[[Book], Book]) -> Book:
        """Replace the book by what ``edit`` makes of it, again if somebody else was quicker.

        Raises:
            ConflictError: others kept being quicker.
        """
        for _ in range(CONFLICTS_MOST):
            book, revision = await self.book()
            changed = edit(book)
            try:
                await self.bucket.put(BOOK, _bytes(changed), expected=revision)
            except ConflictError:
                continue
            return changed
        raise ConflictError("others kept changing the webhooks; send it again")

    async def progress(self, webhook_id: str) -> tuple[Progress | None, int]:
        """Return how far a webhook is, and the revision that a change must replace."""
        entry = await self.bucket.get(_name(webhook_id))
        if entry is None:
            return None, 0
        return _read(Progress, entry.value), entry.revision

    async def save(self, webhook_id: str, progress: Progress, *, expected: int) -> int:
        """Store how far a webhook is; return the revision.

        Raises:
            ConflictError: somebody else has changed it: what they stored counts.
        """
        return await self.bucket.put(_name(webhook_id), _bytes(progress), expected=expected)

    async def forget(self, webhook_id: str) -> None:
        """Drop the progress of a webhook that is gone."""
        await self.bucket.delete(_name(webhook_id))


def webhook_view(webhook: Webhook, progress: Progress | None) -> WebhookView:
    """Return what may be shown of a webhook."""
    return WebhookView(
        id=webhook.id,
        url=webhook.url,
        events=webhook.events,
        description=webhook.description,
        is_active=webhook.is_active,
        created_at=webhook.created_at,
        created_by=webhook.created_by,
        sequence=progress.sequence if progress is not None else 0,
        last=progress.last if progress is not None else None,
    )


def _read(kind: type[DocumentT], value: bytes) -> DocumentT:
    try:
        return kind.model_validate_json(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise LogError(
            f"what is stored of webhooks can't be read ({where}: {first['msg']}); was it written "
            "by a newer version of Millstream?"
        ) from error


def _bytes(document: Contract) -> bytes:
    return document.model_dump_json(exclude_none=True).encode()


def _name(webhook_id: str) -> str:
    return f"progress.{webhook_id}"
