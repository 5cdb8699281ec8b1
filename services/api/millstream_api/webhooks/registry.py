"""What may be asked of webhooks: add, change, remove, replay, test."""

import hashlib
from collections.abc import Callable
from datetime import timedelta

import structlog

from millstream.errors import ConflictError, LogUnavailableError, UsageError
from millstream.runtime.clock import new_id, utc_now
from millstream_api.command_context import Asked
from millstream_api.problems import ProblemError, shown
from millstream_api.relay.hub import Hub
from millstream_api.webhooks.addresses import check_url
from millstream_api.webhooks.messages import Due
from millstream_api.webhooks.retries import settled
from millstream_api.webhooks.sending import Sender
from millstream_api.webhooks.signing import new_secret
from millstream_api.webhooks.store import (
    CONFLICTS_MOST,
    Book,
    Progress,
    Webhook,
    WebhookStore,
    webhook_view,
)
from millstream_schemas.envelope import Actor
from millstream_schemas.webhooks import (
    WEBHOOKS_MOST,
    AddWebhook,
    ChangeWebhook,
    Delivery,
    ReplayWebhook,
    WebhookMessage,
    WebhookView,
)

log = structlog.get_logger()

FORMER_SECRET_KEPT = timedelta(hours=24)


class Webhooks:
    """The webhooks of all APIs.

    Every method raises LogUnavailableError without an answer of the log, and ProblemError (404)
    for a webhook that is not there.
    """

    def __init__(self, store: WebhookStore, sender: Sender, hub: Hub) -> None:
        self._store = store
        self._sender = sender
        self._hub = hub

    async def add(self, command: AddWebhook, asked: Asked) -> tuple[WebhookView, str, bool]:
        """Return a webhook, its secret, and whether it is new: the same key adds one only once.

        Raises:
            UsageError: nothing can be told at this url.
            ProblemError: the key added another one, or there are too many (409).
        """
        url = check_url(command.url, may_be_private=self._sender.may_be_private)
        if not self._hub.ready.is_set():
            raise LogUnavailableError("the API is still reading the log; try again in a second")
        wanted = Webhook(
            id=_id(asked),
            url=url,
            events=_unique(command),
            description=command.description,
            created_at=utc_now(),
            created_by=asked.actor.id,
            secret=new_secret(),
        )

        def edit(book: Book) -> Book:
            if book.find(wanted.id) is not None:
                return book
            if len(book.webhooks) >= WEBHOOKS_MOST:
                raise ProblemError(
                    409,
                    "too_many_webhooks",
                    f"there are {WEBHOOKS_MOST} webhooks; remove one first",
                )
            return Book(webhooks=(*book.webhooks, wanted))

        found = _found(await self._store.change(edit), wanted.id)
        await self._begin(found.id)
        if (found.url, found.events, found.description) != (url, wanted.events, wanted.description):
            raise ProblemError(
                409,
                "idempotency_conflict",
                f"this Idempotency-Key added the webhook {found.id} with another body; use a new "
                "key for a new webhook",
            )
        is_new = found.secret == wanted.secret
        if is_new:
            log.info("webhook.added", webhook=found.id, by=asked.actor.id)
        return await self._view(found), found.secret, is_new

    async def all(self) -> tuple[WebhookView, ...]:
        """Return all webhooks, oldest first."""
        book, _ = await self._store.book()
        return tuple([await self._view(webhook) for webhook in book.webhooks])

    async def get(self, webhook_id: str) -> WebhookView:
        """Return one webhook."""
        return await self._view(await self._one(webhook_id))

    async def deliveries(self, webhook_id: str) -> tuple[Delivery, ...]:
        """Return the latest deliveries, newest first."""
        webhook = await self._one(webhook_id)
        progress, _ = await self._store.progress(webhook.id)
        return progress.deliveries[::-1] if progress is not None else ()

    async def change(self, webhook_id: str, command: ChangeWebhook, actor: Actor) -> WebhookView:
        """Change what ``command`` gives and return the webhook.

        Raises:
            UsageError: nothing can be told at this url.
        """
        if command.url is not None:
            check_url(command.url, may_be_private=self._sender.may_be_private)
        given = command.model_dump(exclude_none=True)
        if command.events is not None:
            given["events"] = _unique(command)
        changed = await self._edit(webhook_id, lambda one: one.model_copy(update=given))
        log.info("webhook.changed", webhook=webhook_id, by=actor.id, fields=sorted(given))
        return await self._view(changed)

    async def rotate(self, webhook_id: str, asked: Asked) -> tuple[WebhookView, str]:
        """Return a new secret, once for each key; the one before signs beside it for a day.

        A request that is repeated must not renew it again: the receiver's would then be neither.
        """
        now = utc_now()
        fresh = {"secret": new_secret(), "secret_key": _id(asked)}

        def renewed(one: Webhook) -> Webhook:
            if one.secret_key == fresh["secret_key"]:
                return one
            former = {"former_secret": one.secret, "former_until": now + FORMER_SECRET_KEPT}
            return one.model_copy(update={**fresh, **former})

        changed = await self._edit(webhook_id, renewed)
        log.info("webhook.secret_renewed", webhook=webhook_id, by=asked.actor.id)
        return await self._view(changed), changed.secret

    async def remove(self, webhook_id: str, actor: Actor) -> WebhookView:
        """Remove a webhook and its history; return it as it was."""
        webhook = await self._one(webhook_id)
        view = await self._view(webhook)
        await self._store.change(lambda book: book.without(webhook_id))
        await self._store.forget(webhook_id)
        log.info("webhook.removed", webhook=webhook_id, by=actor.id)
        return view

    async def replay(self, webhook_id: str, command: ReplayWebhook, actor: Actor) -> WebhookView:
        """Let a webhook start again after a place in the log.

        Raises:
            UsageError: the log has not come that far.
            ConflictError: deliveries kept coming in between.
        """
        if command.after > self._hub.sequence:
            raise UsageError(
                f"after={command.after} is beyond the log's end ({self._hub.sequence}); give the "
                "sequence of a delivery, or 0",
                field="after",
                value=command.after,
            )
        webhook = await self._one(webhook_id)
        for _ in range(CONFLICTS_MOST):
            progress, revision = await self._store.progress(webhook_id)
            start = progress or self._begun()
            rewound = start.rewound(command.after)
            try:
                await self._store.save(webhook_id, rewound, expected=revision)
            except ConflictError:
                continue
            log.info("webhook.replayed", webhook=webhook_id, after=command.after, by=actor.id)
            return webhook_view(webhook, rewound)
        raise ConflictError("deliveries kept coming in between; send it again")

    async def ping(self, webhook_id: str) -> Delivery:
        """Send a message of type ``ping`` at once, and return what became of it; it is not kept."""
        webhook = await self._one(webhook_id)
        message_id = f"evt_ping_{new_id()}"
        due = Due(0, WebhookMessage(type="ping", timestamp=utc_now()))
        secrets = webhook.secrets(utc_now())
        attempt = await self._sender.send(webhook.url, message_id, due.message, secrets)
        delivery = settled(None, due, message_id, attempt, now=utc_now(), chance=lambda: 0.0)
        if delivery.state == "retrying":  # nobody tries a ping again
            return delivery.model_copy(update={"state": "given_up", "next_at": None})
        return delivery

    async def _edit(self, webhook_id: str, edit: Callable[[Webhook], Webhook]) -> Webhook:
        book = await self._store.change(lambda one: one.replaced(edit(_found(one, webhook_id))))
        return _found(book, webhook_id)

    async def _one(self, webhook_id: str) -> Webhook:
        book, _ = await self._store.book()
        return _found(book, webhook_id)

    async def _view(self, webhook: Webhook) -> WebhookView:
        progress, _ = await self._store.progress(webhook.id)
        return webhook_view(webhook, progress)

    async def _begin(self, webhook_id: str) -> None:
        progress, _ = await self._store.progress(webhook_id)
        if progress is None:
            try:
                await self._store.save(webhook_id, self._begun(), expected=0)
            except ConflictError:
                log.debug("webhook.begun_by_other", webhook=webhook_id)

    def _begun(self) -> Progress:
        return Progress(epoch=self._hub.epoch, sequence=self._hub.sequence)


def _found(book: Book, webhook_id: str) -> Webhook:
    webhook = book.find(webhook_id)
    if webhook is None:
        raise ProblemError(
            404,
            "not_found",
            f"webhook {shown(webhook_id)!r} does not exist; GET /v1/webhooks lists those there are",
        )
    return webhook


def _unique(command: AddWebhook | ChangeWebhook) -> tuple[str, ...]:
    return tuple(dict.fromkeys(command.events or ()))


def _id(asked: Asked) -> str:
    """Return the id of a new webhook: of one key it is always the same."""
    if asked.key is None:
        return f"hook_{new_id()[:16]}"
    whole = f"{asked.actor.kind}\n{asked.actor.id}\n{asked.key}"
    return f"hook_{hashlib.sha256(whole.encode()).hexdigest()[:16]}"
