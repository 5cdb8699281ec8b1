"""The deliverer: takes each webhook through the log, in order, at its receiver's pace.

A message is sent, then its outcome stored together with the place in the log. Whoever dies in
between leaves the message to be sent again under the same id: at least once, never not at all.
A receiver that fails holds up its own webhook alone; nothing is skipped until it is given up.
"""

import asyncio
import random
from collections import Counter

import structlog

from millstream.errors import ConflictError, LogError
from millstream.runtime.clock import utc_now
from millstream_api.relay.hub import Hub
from millstream_api.webhooks.lead import Lead
from millstream_api.webhooks.messages import Due, Messages
from millstream_api.webhooks.retries import settled
from millstream_api.webhooks.sending import Sender
from millstream_api.webhooks.store import Book, Progress, Webhook, WebhookStore

log = structlog.get_logger()

TICK_S = 0.5


class Deliverer:
    """Delivers as long as this process has the lead; ``outcomes`` counts its attempts."""

    def __init__(
        self, store: WebhookStore, messages: Messages, sender: Sender, hub: Hub, lead: Lead
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        self._store = store
        self._messages = messages
        self._sender = sender
        self._hub = hub
        self._lead = lead
        self._leads = False
        self._book = Book()
        self._busy: set[str] = set()
        self._newest = (-1, 0)
        self._said = ""

    async def run(self) -> None:
        """Deliver; never ends. An outage of the log is waited out."""
        await self._hub.ready.wait()
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    self._leads = await self._lead.hold()
                    if self._leads:
                        await self._turn(tasks)
                except LogError as error:
                    self._tell(str(error))
                else:
                    self._said = ""
                await asyncio.sleep(TICK_S)

    def _tell(self, reason: str) -> None:
        """Log why nothing is delivered, once until it is over or another reason comes."""
        if reason != self._said:
            self._said = reason
            log.warning("webhooks.postponed", reason=reason)

    async def leave(self) -> None:
        """Leave the lead to another API; to be called when ``run`` has been cancelled."""
        try:
            await self._lead.leave()
        except LogError as error:  # it ends by itself then
            log.warning("webhooks.lead_kept", reason=str(error))

    async def _turn(self, tasks: asyncio.TaskGroup) -> None:
        """Start what is due of each webhook that nothing is under way for."""
        self._book, _ = await self._store.book()
        for webhook in self._book.webhooks:
            if not webhook.is_active or webhook.id in self._busy:
                continue
            progress, revision = await self._store.progress(webhook.id)
            if progress is None or progress.epoch != self._hub.epoch:
                # Of another stream: its places mean nothing here, and what is old stays untold.
                kept = progress.deliveries if progress is not None else ()
                progress = Progress(
                    epoch=self._hub.epoch, sequence=self._hub.sequence, deliveries=kept
                )
                revision = await self._store.save(webhook.id, progress, expected=revision)
            if await self._is_due(progress):
                self._busy.add(webhook.id)
                tasks.create_task(self._drain(webhook.id, progress, revision))

    async def _is_due(self, progress: Progress) -> bool:
        retrying = progress.retrying
        if retrying is not None:
            return retrying.next_at is None or retrying.next_at <= utc_now()
        folded = self._hub.sequence
        if self._newest[0] != folded:
            self._newest = (folded, await self._messages.newest())
        return progress.sequence < self._newest[1]

    async def _drain(self, webhook_id: str, progress: Progress, revision: int) -> None:
        """Deliver what waits for one webhook until nothing does, or an attempt fails."""
        try:
            while self._leads:
                webhook = self._book.find(webhook_id)
                if webhook is None or not webhook.is_active:
                    return
                further = await self._step(webhook, progress)
                if further is progress:
                    return
                progress = further
                revision = await self._store.save(webhook_id, progress, expected=revision)
                if progress.retrying is not None:
                    return
        except ConflictError:  # a replay was asked for, or another process has the lead
            log.info("webhook.interrupted", webhook=webhook_id)
        except LogError as error:
            log.warning("webhook.postponed", webhook=webhook_id, reason=str(error))
        finally:
            self._busy.discard(webhook_id)

    async def _step(self, webhook: Webhook, progress: Progress) -> Progress:
        sequence, due = await self._messages.next(
            progress.sequence, webhook.events, until=self._hub.sequence
        )
        if due is not None:
            return await self._deliver(webhook, progress, due)
        return progress if sequence == progress.sequence else progress.passed(sequence)

    async def _deliver(self, webhook: Webhook, progress: Progress, due: Due) -> Progress:
        message_id = f"evt_{progress.epoch}_{due.sequence}"
        before = progress.retrying
        if before is not None and before.id != message_id:
            before = None  # what was retried is no longer asked for
        secrets = webhook.secrets(utc_now())
        attempt = await self._sender.send(webhook.url, message_id, due.message, secrets)
        delivery = settled(before, due, message_id, attempt, now=utc_now(), chance=random.random)
        self.outcomes[delivery.state] += 1
        told = log.info if attempt.is_taken else log.warning
        told(
            "webhook.attempted",
            webhook=webhook.id,
            message=message_id,
            state=delivery.state,
            status=attempt.status,
            reason=attempt.error,
        )
        return progress.noted(delivery)
