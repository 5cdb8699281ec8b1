"""Which events are told, in which words, and the next one of them in the log."""

from dataclasses import dataclass

from millstream.domain.budget import BUDGETS_ACTOR
from millstream.eventlog.log import EventLog
from millstream.eventlog.stored import Stored, decode
from millstream_schemas import control, notes, subjects
from millstream_schemas.envelope import BatchEvent
from millstream_schemas.webhooks import WebhookData, WebhookEvent, WebhookMessage

PASSED_MOST = 200
"""So many events without a message are passed before progress is stored."""


@dataclass(frozen=True, slots=True)
class Due:
    """A message that must be delivered, and the event that it tells."""

    sequence: int
    message: WebhookMessage

    @property
    def batch_id(self) -> str | None:
        """The batch that it is of; None for a ping."""
        return self.message.data.batch_id if self.message.data is not None else None


def told_by(event: BatchEvent) -> WebhookEvent | None:
    """Return what a receiver is told when ``event`` was stored, None for nothing."""
    match event:
        case control.BatchCompleted():
            return "batch.completed"
        case control.BatchStopped():
            return "batch.stopped"
        case control.BatchFailed():
            return "batch.failed"
        case control.BatchStopRequested() if event.actor == BUDGETS_ACTOR:
            return "batch.budget_reached"
        case notes.StuckDetected():
            return "batch.stuck"
        case notes.StuckCleared():
            return "batch.unstuck"
        case notes.BudgetWarned():
            return "batch.budget_warned"
        case _:
            return None


class Messages:
    """Reads the events of all batches' lives, and their notes, from the log's leader.

    Each is asked for alone: there are a few per batch, and a leader's answer is never behind.
    """

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log

    async def newest(self) -> int:
        """Return the sequence of the latest event that could be told."""
        found = [await self._log.last(one) for one in (subjects.ALL_CONTROL, subjects.ALL_NOTES)]
        return max((stored.sequence for stored in found if stored is not None), default=0)

    async def next(
        self, after: int, wanted: tuple[WebhookEvent, ...], *, until: int
    ) -> tuple[int, Due | None]:
        """Return how far was read, and the first message after ``after`` that is wanted.

        ``until`` is a sequence that is known to be stored. Two kinds of events are asked for one
        after the other: one that is stored in between could be passed by a later one of the other
        kind, but for this bound.

        Without a message: the end was reached, or many events were passed; then the sequence is
        beyond ``after``.

        Raises:
            LogUnavailableError: the log does not answer.
        """
        for _ in range(PASSED_MOST):
            stored = await self._first(after, until)
            if stored is None:
                break
            recorded = decode(stored)
            kind = told_by(recorded.event) if recorded is not None else None
            if recorded is not None and kind is not None and kind in wanted:
                data = await self._data(stored.sequence, recorded.event)
                message = WebhookMessage(type=kind, timestamp=stored.stored_at, data=data)
                return stored.sequence, Due(stored.sequence, message)
            after = stored.sequence
        return after, None

    async def _first(self, after: int, until: int) -> Stored | None:
        found = [
            await self._log.after(one, after) for one in (subjects.ALL_CONTROL, subjects.ALL_NOTES)
        ]
        there = [stored for stored in found if stored is not None and stored.sequence <= until]
        return min(there, key=lambda stored: stored.sequence, default=None)

    async def _data(self, sequence: int, event: BatchEvent) -> WebhookData:
        first = await self._log.after(subjects.control(event.batch_id), 0)
        started = decode(first) if first is not None else None
        opening = started.event if started is not None else None
        spec = opening.spec if isinstance(opening, control.BatchStarted) else None
        names = ("reason", "counts", "error", "finding", "rule", "budget", "used")
        return WebhookData(
            batch_id=event.batch_id,
            sequence=sequence,
            model=spec.model if spec else "",
            recipe=spec.recipe.recipe.name if spec else "",
            target=spec.target if spec else 0,
            **{name: getattr(event, name) for name in names if hasattr(event, name)},
        )
